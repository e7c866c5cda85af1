// A film before it is made: its story, who makes it and how, and what that will take.

import * as api from "./api.js";
import { Field, without } from "./settings.js";
import { Phrases, retold, Scenes, Seconds, Strip, stretched, told } from "./story.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.module.js";
import { bytes, clock, count, counted, lasting, warned } from "./words.js";

const DRAFT = "longtake.draft";
const EXAMPLE = [
  "a car drives right through the city",
  "a penguin dives down under water",
  "a panda swings in the desert",
  "a rocket flies up through the night sky",
];
// What stands in the open; every other setting is folded away.
const FIRST = ["seed", "guidance_scale", "negative_prompt"];
// Of the others, those that most people want.
const SECOND = ["fps", "crf"];
// Those that the page asks for in its own way.
const APART = ["num_frames", "size", "model", "sampler", "prompts", "prompt", "seconds", "input_reference"];

const equal = (texts, frames) => texts.map((text, index) => ({ start: Math.round((index * frames) / texts.length), text }));

const beginning = (options) => {
  const frames = 32 * Math.max(Math.round(options.models.find((each) => each.name === options.defaults.model).fps), 1);
  return { ...options.defaults, frames, scenes: equal(EXAMPLE, frames), values: {}, own: {} };
};

// The draft that was left here, unless this server has other models.
export const remembered = (options) => {
  try {
    const draft = JSON.parse(localStorage.getItem(DRAFT));
    if (draft && modelOf(options, draft.model) && methodOf(options, draft.sampler)) return draft;
  } catch {
    // Something else has written there.
  }
  return beginning(options);
};

// The draft that would make a film again; a take has the settings of the film that it comes from.
export const again = (film, films, options) => {
  let first = film;
  for (let parent; (parent = films.find((each) => each.id === first.parent)); ) first = parent;
  const asked = first.request;
  const values = {};
  for (const setting of options.settings) {
    if (setting.name in asked && !APART.includes(setting.name) && asked[setting.name] !== setting.default) values[setting.name] = asked[setting.name];
  }
  const own = Object.fromEntries(
    Object.entries(asked).filter(([name]) => name.startsWith("sampler.")).map(([name, value]) => [name.slice(8), value]),
  );
  const usual = options.settings.find((setting) => setting.name === "seed").default;
  const kept = without(values, "seed", film.seed === usual ? undefined : film.seed);
  return { model: film.model, sampler: film.sampler, frames: film.frames, scenes: film.prompts, size: `${film.width}x${film.height}`, values: kept, own };
};

export const keep = (draft) => localStorage.setItem(DRAFT, JSON.stringify(draft));

const modelOf = (options, name) => options.models.find((each) => each.name === name);
const methodOf = (options, name) => options.samplers.find((each) => each.name === name);

// A small picture is enlarged, so that one sees something.
const usualSize = ({ width, height }) => {
  const scale = Math.max(1, Math.floor(256 / Math.min(width, height)));
  return `${width * scale}x${height * scale}`;
};

const order = (draft, model, typed) => ({
  model: draft.model,
  sampler: draft.sampler,
  num_frames: draft.frames,
  size: draft.size ?? usualSize(model),
  prompts: typed ?? draft.scenes,
  ...draft.values,
  ...Object.fromEntries(Object.entries(draft.own).map(([name, value]) => [`sampler.${name}`, value])),
});

const isPlain = (text) => !/[|[\]{}\n]|-->/.test(text.trim());

export function Compose({ options, draft: given, onMade }) {
  const [draft, setDraft] = useState(given);
  const [pointed, setChosen] = useState(0);
  const [typed, setTyped] = useState(null);
  const [picture, setPicture] = useState(null);
  const [sending, setSending] = useState(false);
  const [problem, setProblem] = useState(null);
  const model = modelOf(options, draft.model);
  const method = methodOf(options, draft.sampler);
  const { scenes, frames } = draft;
  // A text or a length leaves fewer scenes than there were.
  const chosen = Math.min(pointed, scenes.length - 1);
  const change = (part) => setDraft((before) => ({ ...before, ...part }));

  useEffect(() => keep(draft), [draft]);

  // The same order stays the same object, so that it is planned once.
  const ordered = JSON.stringify(order(draft, model, typed));
  const asked = useMemo(() => JSON.parse(ordered), [ordered]);
  const missing = typed === null ? scenes.findIndex((scene) => !scene.text.trim()) : -1;
  const plan = usePlan(asked, missing < 0);
  useEffect(() => {
    if (typed !== null && plan.for === asked && plan.found) change({ scenes: plan.found.prompts });
  }, [plan]);

  const tell = (next) => {
    setTyped(null);
    change({ scenes: next });
  };
  const write = (text) => {
    if (!isPlain(text)) return setTyped(text);
    setTyped(null);
    change({ scenes: [{ start: 0, text }] });
  };
  const last = (to) => {
    const next = Math.max(1, Math.min(Math.round(to * model.fps) || 1, options.most));
    change({ frames: next, scenes: stretched(scenes, frames, next) });
  };
  const add = () => {
    const start = Math.round((scenes.at(-1).start + frames) / 2);
    if (start > scenes.at(-1).start && start < frames) tell([...scenes, { start, text: "" }]);
    else tell([...stretched(scenes, frames, frames - Math.round(frames / (scenes.length + 1))), { start: frames - Math.round(frames / (scenes.length + 1)), text: "" }]);
    setChosen(scenes.length);
  };
  const choose = (name) => {
    const next = modelOf(options, name);
    const length = Math.max(1, Math.round((frames / model.fps) * next.fps));
    const sampler = next.samplers.includes(draft.sampler) ? draft.sampler : next.samplers[0];
    setDraft((before) => ({ ...before, model: name, sampler, size: undefined, frames: length, scenes: stretched(scenes, frames, length), own: sampler === before.sampler ? before.own : {} }));
  };
  const make = async () => {
    setSending(true);
    setProblem(null);
    try {
      onMade(await api.make(asked, picture));
    } catch (error) {
      setProblem(error.message);
    }
    setSending(false);
  };

  const first = options.settings.filter((setting) => FIRST.includes(setting.name));
  const rest = options.settings.filter((setting) => !FIRST.includes(setting.name) && !APART.includes(setting.name));
  const more = [...rest.filter((setting) => SECOND.includes(setting.name)), ...rest.filter((setting) => !SECOND.includes(setting.name))];
  const refusal = missing < 0 && !plan.isOld ? plan.refusal : null;
  const changed = more.filter((setting) => setting.name in draft.values).length + Object.keys(draft.own).length;
  const values = (next) => change({ values: next });

  return html`<form class="compose" onSubmit=${(event) => event.preventDefault()}>
    <section class="story" aria-labelledby="story-title">
      <header><h2 id="story-title">Story</h2>
        <label class="length">Length <${Seconds} min="0.1" value=${frames / model.fps} onChange=${last} /> s
          <span class="soft">${counted(frames, "frame")}, ${count(model.fps)} a second</span></label>
      </header>
      <${Strip} scenes=${scenes} frames=${frames} fps=${model.fps} chosen=${chosen} onChoose=${setChosen} onChange=${tell} />
      <div class="told">
        <div>
          <${Scenes} scenes=${scenes} frames=${frames} fps=${model.fps} chosen=${chosen} onChoose=${setChosen} onChange=${tell} />
          <button type="button" class="quiet add" onClick=${add} disabled=${frames < scenes.length + 1}>Add a scene</button>
        </div>
        <${Phrases} model=${model} text=${scenes[chosen].text} onChange=${(text) => tell(retold(scenes, chosen, text))} />
        <label class="text"><span>The same as text</span>
          <textarea spellcheck="false" rows=${Math.max(scenes.length + 1, 5)} value=${typed ?? told(scenes, model.fps)} onInput=${(event) => write(event.currentTarget.value)}
            onBlur=${() => plan.found && !plan.isOld && setTyped(null)} aria-describedby="text-help" aria-invalid=${typed !== null && Boolean(plan.refusal)}></textarea>
          <span id="text-help" class="help">one | after | another, [0s: with] [8s: times], JSON, or subtitles</span>
        </label>
      </div>
    </section>

    <section class="making" aria-labelledby="making-title">
      <header><h2 id="making-title">Making</h2></header>
      <div class="fields">
        <div class="field"><label for="setting-model">Model</label>
          <div class="entry"><select id="setting-model" onChange=${(event) => choose(event.currentTarget.value)}>
            ${options.models.map((each) => html`<option key=${each.name} value=${each.name} selected=${each.name === draft.model}>${each.name}</option>`)}</select></div>
          <p class="help">${model.help}</p></div>
        <div class="field"><label for="setting-sampler">Method</label>
          <div class="entry"><select id="setting-sampler" onChange=${(event) => change({ sampler: event.currentTarget.value, own: {} })}>
            ${model.samplers.map((name) => html`<option key=${name} value=${name} selected=${name === draft.sampler}>${name}</option>`)}</select></div>
          <p class="help">${method.help}</p></div>
        <${Size} model=${model} size=${draft.size ?? usualSize(model)} onChange=${(size) => change({ size })} />
        ${first.map(
          (setting) => html`<${Field} key=${setting.name} setting=${setting} values=${draft.values} onChange=${values} refusal=${refusal}>
            ${setting.name === "seed" && html`<button type="button" class="quiet" onClick=${() => values(without(draft.values, "seed", Math.floor(Math.random() * 1e6)))}>Another</button>`}
          <//>`,
        )}
      </div>
      <details class="more"><summary>More settings${changed > 0 && html`<span class="soft"> ${changed} changed</span>`}</summary>
        <h3>The film</h3>
        <div class="fields">
          ${more.map((setting) => html`<${Field} key=${setting.name} setting=${setting} values=${draft.values} onChange=${values} refusal=${refusal} />`)}
          <div class="field"><label for="setting-picture">Begin with</label>
            <div class="entry"><input id="setting-picture" type="file" accept="image/png,image/jpeg,image/webp" onChange=${(event) => setPicture(event.currentTarget.files[0] ?? null)} /></div>
            <p class="help">A picture, for models that go on from one.</p></div>
        </div>
        ${method.settings.length > 0 && html`<h3>${method.name}</h3>`}
        <div class="fields">${method.settings.map((setting) => html`<${Field} key=${`${method.name}.${setting.name}`} setting=${setting} values=${draft.own} onChange=${(own) => change({ own })} refusal=${refusal} />`)}</div>
      </details>
    </section>

    <${Plan} plan=${plan} model=${model} missing=${missing} sending=${sending} problem=${problem} onMake=${make} />
  </form>`;
}

function Size({ model, size, onChange }) {
  const [width, height] = [model.width, model.height];
  const scales = [1, 2, 4, 6, 8].filter((scale) => Math.max(width, height) * scale <= 1024);
  const sizes = [...new Set([...scales.map((scale) => `${width * scale}x${height * scale}`), size])];
  return html`<div class="field"><label for="setting-size">Picture</label>
    <div class="entry"><select id="setting-size" onChange=${(event) => onChange(event.currentTarget.value)}>
      ${sizes.map((each) => html`<option key=${each} value=${each} selected=${each === size}>${each.replace("x", " × ")}</option>`)}</select></div>
    <p class="help">The model makes ${width} × ${height} pixels; more are an enlargement.</p></div>`;
}

// Asks for the plan of an order a moment after it has stopped changing.
export function usePlan(asked, isReady) {
  const [plan, setPlan] = useState({ for: null, found: null, refusal: null });
  const latest = useRef(null);
  useEffect(() => {
    if (!isReady) return;
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      for (;;) {
        try {
          const found = await api.plan(asked, stop.signal);
          return setPlan({ for: asked, found, refusal: null });
        } catch (error) {
          if (error.name === "AbortError") return;
          if (error instanceof api.Refusal) return setPlan({ for: asked, found: null, refusal: error });
        }
        await new Promise((resolve) => setTimeout(resolve, 1500));
        if (stop.signal.aborted) return;
      }
    }, latest.current ? 350 : 0);
    latest.current = asked;
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [asked, isReady]);
  return { ...plan, isOld: plan.for !== asked };
}

function Plan({ plan, model, missing, sending, problem, onMake }) {
  const { found, refusal } = plan;
  const waits = missing >= 0;
  return html`<aside class="plan" data-old=${plan.isOld && !waits} aria-label="Plan">
    <h2>Plan</h2>
    ${
      waits
        ? html`<p class="soft">Scene ${missing + 1} has no words yet.</p>`
        : refusal
          ? html`<p class="refusal" role="alert">${refusal.message}</p>`
          : found
            ? html`<p class="time" role="status"><strong>${found.seconds == null ? "Unknown time" : `about ${lasting(found.seconds)}`}</strong>
                <span>for ${clock(found.frames / found.fps)} of film</span></p><${Figures} found=${found} />`
            : html`<p class="soft">Counting…</p>`
    }
    ${found && !waits && !refusal && found.warnings.map((warning) => html`<p key=${warning} class="warning">${warned(warning, `open “What ${model.name} can show”`)}</p>`)}
    <button type="button" class="main" onClick=${onMake} disabled=${sending || waits || Boolean(refusal) || !found}>${sending ? "One moment…" : "Make this film"}</button>
    ${problem && html`<p class="refusal" role="alert">${problem}</p>`}
  </aside>`;
}

function Figures({ found }) {
  const rows = [
    found.forwards && ["Calls of the network", count(Math.ceil(found.forwards))],
    found.peak_memory_bytes && ["Memory", bytes(found.peak_memory_bytes)],
    found.disk_bytes && ["Disk", bytes(found.disk_bytes)],
    found.device && ["Computed on", `${found.device === "cpu" ? "the processor" : found.device}, ${found.dtype}`],
  ].filter(Boolean);
  return html`<dl>${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${found.seconds == null && found.seconds_reason && html`<p class="soft">${found.seconds_reason}</p>`}`;
}
