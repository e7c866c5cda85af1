// All that travels between the page and the server; what an answer means is said here and nowhere else.

import { inWords } from "./words.js";

const TOKEN = "longtake.token";
const listeners = new Set();
let isReached = true;

// The server said no, in one line.
export class Refusal extends Error {
  constructor(message, status, about) {
    super(message);
    this.status = status;
    this.about = about;
  }
}

// There was no answer at all.
export class Silence extends Error {}

export const onLink = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export const enter = (token) => {
  sessionStorage.setItem(TOKEN, token);
  spread("reached");
};

export const hasToken = () => Boolean(sessionStorage.getItem(TOKEN));

function spread(news) {
  for (const listener of listeners) listener(news);
}

function heard(reached) {
  if (reached === isReached) return;
  isReached = reached;
  spread(reached ? "reached" : "lost");
}

export async function ask(path, { method = "GET", body, signal, headers = {} } = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const isForm = body instanceof FormData;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      cache: "no-store",
      headers: {
        ...headers,
        ...(body && !isForm ? { "Content-Type": "application/json" } : {}),
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
      },
      body: body && !isForm ? JSON.stringify(body) : body,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    heard(false);
    throw new Silence("the server does not answer");
  }
  heard(true);
  if (answer.ok || answer.status === 416) return answer;
  if (answer.status === 401) spread("token");
  throw await refusal(answer);
}

async function refusal(answer) {
  let content = null;
  try {
    content = (await answer.json()).error;
  } catch {
    // What stands before the server may answer with a page of its own.
  }
  const message = content?.message ?? `the server answered ${answer.status} ${answer.statusText}`;
  return new Refusal(inWords(message), answer.status, content?.param ?? null);
}

const json = async (path, options) => (await ask(path, options)).json();

// What can be asked for: models that are ready, samplers and their settings, and what the first film is made with.
export const options = async () => {
  const { models, samplers, settings, limits, defaults } = await json("v1/options");
  const listed = (all) => Object.entries(all).map(([name, about]) => ({ name, help: about.summary, ...about }));
  const ready = listed(models).filter((model) => model.ready && model.samplers.length);
  const own = ({ settings: all, ...rest }) => ({ ...rest, settings: all.map((each) => ({ ...each, name: each.name.replace(/^sampler\./, "") })) });
  const first = ready.find((model) => model.name === defaults.model) ?? ready[0];
  const usual = first.samplers.includes(defaults.sampler) ? defaults.sampler : first.samplers[0];
  return { models: ready, samplers: listed(samplers).map(own), settings, most: limits.max_frames, defaults: { model: first.name, sampler: usual } };
};

export const plan = (order, signal) => json("v1/plan", { method: "POST", body: order, signal });

// Why nothing is made just now, or null.
export const halt = async () => (await json("health")).reason ?? null;

export const films = async () => (await json("v1/videos?limit=100")).data.map(film);

export const oneFilm = async (id) => film(await json(`v1/videos/${encodeURIComponent(id)}`));

export const make = async (order, picture) => {
  let body = order;
  if (picture) {
    body = new FormData();
    for (const [name, value] of Object.entries(order)) body.append(name, typeof value === "object" ? JSON.stringify(value) : value);
    body.append("input_reference", picture);
  }
  return film(await json("v1/videos", { method: "POST", body }));
};

export const redo = async (id, change) =>
  film(await json(`v1/videos/${encodeURIComponent(id)}/remix`, { method: "POST", body: change }));

export const extend = async (id, change) =>
  film(await json("v1/videos/extensions", { method: "POST", body: { video: { id }, ...change } }));

export const tell = async (id, prompts, from_frame) =>
  film(await json(`v1/videos/${encodeURIComponent(id)}/prompts`, { method: "POST", body: { prompts, from_frame } }));

// pause, resume, cancel, move
export const command = async (id, verb, body = {}) =>
  film(await json(`v1/videos/${encodeURIComponent(id)}/${verb}`, { method: "POST", body }));

export const remove = (id) => ask(`v1/videos/${encodeURIComponent(id)}`, { method: "DELETE" });

export const figures = (id, start) => json(`v1/videos/${encodeURIComponent(id)}/figures?start=${start}`);

export const contentPath = (id) => `v1/videos/${encodeURIComponent(id)}/content`;

export const bytesFrom = (id, offset, signal) =>
  ask(contentPath(id), { signal, headers: offset ? { Range: `bytes=${offset}-` } : {} });

export const downloads = (film) => [
  { name: `${film.id}.mp4`, label: "Film", kind: "mp4", path: contentPath(film.id) },
  { name: `${film.id}.json`, label: "Report", kind: "json", path: `v1/videos/${encodeURIComponent(film.id)}/report` },
  { name: `${film.id}.vtt`, label: "Subtitles", kind: "vtt", path: `v1/videos/${encodeURIComponent(film.id)}/prompts.vtt` },
];

export const picture = async (id, frame) => (await ask(`${contentPath(id)}?variant=thumbnail&frame=${frame}`)).blob();

// Yields {event, data} as the server sends them, until it ends the stream or the signal ends it.
export async function* events(id, signal) {
  const answer = await ask(`v1/videos/${encodeURIComponent(id)}/events`, { signal, headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value.replaceAll("\r\n", "\n");
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const found = event(block);
        if (found) yield found;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Silence("the stream of news broke off");
  }
}

function event(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  if (!data.length) return null;
  const content = JSON.parse(data.join("\n"));
  return { event: name, data: name === "progress" ? film(content) : content };
}

// A video of the interface as the page speaks of it.
export function film(video) {
  const [width, height] = (video.size ?? "0x0").split("x").map(Number);
  return {
    id: video.id,
    state: video.state ?? video.status,
    model: video.model,
    sampler: video.sampler,
    seed: video.seed,
    prompts: video.prompts ?? [{ start: 0, text: video.prompt ?? "" }],
    made: video.frames_ready ?? 0,
    frames: video.num_frames ?? null,
    fps: video.fps ?? 8,
    width,
    height,
    left: video.eta_seconds ?? null,
    speed: video.frames_per_second ?? null,
    memory: video.memory_bytes ?? null,
    position: video.position ?? null,
    error: video.error?.message ?? null,
    parent: video.remixed_from_video_id ?? video.extended_from_video_id ?? null,
    isLonger: Boolean(video.extended_from_video_id),
    from: video.from_frame ?? null,
    at: video.created_at,
    takes: video.can_turn ?? true,
    doing: video.doing ?? "",
    request: video.request ?? {},
  };
}
