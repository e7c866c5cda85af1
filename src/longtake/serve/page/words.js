// How times, sizes and names are said to a film-maker.

export const clock = (seconds, digits = 0) => {
  const scale = 10 ** digits;
  const whole = Math.floor(Math.max(seconds, 0) * scale + 1e-6);
  const minutes = Math.floor(whole / scale / 60);
  const rest = (whole / scale - minutes * 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};

export const lasting = (seconds) => {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  const hours = seconds / 3600;
  return hours < 48 ? `${hours.toFixed(1)} h` : `${Math.round(hours / 24)} days`;
};

export const bytes = (count) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (count >= 999.5 && power < units.length - 1) {
    count /= 1000;
    power += 1;
  }
  return `${count >= 99.5 || power === 0 ? Math.round(count) : Number(count.toPrecision(2))} ${units[power]}`;
};

export const count = (number) => Number(number).toLocaleString("en", { maximumFractionDigits: 1 });

export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

// The size that somebody has typed, in bytes; null for what is none.
export const typedBytes = (text) => {
  const [, number, unit] = /^\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*$/i.exec(text) ?? [];
  return number === undefined ? null : Math.round(Number(number) * 1000 ** " kmgt".indexOf(unit.toLowerCase() || " "));
};

const NAMES = {
  num_frames: "Length",
  seed: "Seed",
  fps: "Frames per second",
  guidance_scale: "Guidance",
  negative_prompt: "Keep away from",
  keep_states: "Disk for going back",
  num_inference_steps: "Steps",
  crf: "Compression",
};

export const named = (setting) => {
  const name = setting.split(".").pop();
  return NAMES[name] ?? name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
};

// What the server says, with its fields by the names that stand beside them here.
export const inWords = (message) => message.replace(/\bsampler\.\w+|\b[a-z]+(?:_[a-z]+)+\b/g, (name) => (name in NAMES || name.startsWith("sampler.") ? named(name) : name));

// What a plan warns of, with where this page lists what a model knows in the place of the command that does.
export const warned = (message, where) => message.replace(/; its [\d,]+ words are listed by '.*$/s, `; ${where}`);

const STATES = {
  queued: "Waiting",
  in_progress: "Making",
  paused: "Paused",
  completed: "Finished",
  failed: "Failed",
  cancelled: "Stopped",
};

export const stated = (film) => STATES[film.state] ?? film.state;

export const isOver = (film) => ["completed", "failed", "cancelled"].includes(film.state);

// What sets a take apart from the one that it goes on from.
export const taken = (film) => {
  if (!film.parent) return null;
  return film.isLonger ? "made longer" : `redone from ${clock((film.from ?? 0) / film.fps, 1)}`;
};

export const titled = (film) => film.prompts[0]?.text ?? "Untitled";

// What tells a film from the others: its first words, of a take the first of its own.
export const distinguished = (film) => {
  if (!film.parent) return titled(film);
  const own = film.isLonger ? film.prompts.at(-1) : film.prompts.findLast((scene) => scene.start <= (film.from ?? 0));
  return `… ${own?.text ?? titled(film)}`;
};

export const longAgo = (at) => {
  const seconds = Date.now() / 1000 - at;
  if (seconds < 60) return "just now";
  if (seconds < 5400) return `${lasting(seconds)} ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return new Date(at * 1000).toLocaleDateString("en", { day: "numeric", month: "short" });
};
