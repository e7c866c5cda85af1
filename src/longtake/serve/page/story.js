// The story of a film: which prompt holds when. Edited by dragging on a strip, in a list, or as text.

import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { clock } from "./words.js";

// A scene is {start, text}, in frames; the first starts at 0, starts rise.

const HUES = [205, 65, 320, 150, 20, 265];
export const hue = (index) => HUES[index % HUES.length];

const stop = (scenes, index, frames) => scenes[index + 1]?.start ?? frames;

const between = (least, value, most) => Math.min(Math.max(value, least), most);

export const moved = (scenes, index, start, frames) => {
  const least = scenes[index - 1].start + 1;
  const place = between(least, Math.round(start), stop(scenes, index, frames) - 1);
  return scenes.map((scene, each) => (each === index ? { ...scene, start: place } : scene));
};

export const split = (scenes, index, at, frames) => {
  const place = Math.round(at);
  if (place <= scenes[index].start || place >= stop(scenes, index, frames)) return scenes;
  return [...scenes.slice(0, index + 1), { start: place, text: scenes[index].text }, ...scenes.slice(index + 1)];
};

export const removed = (scenes, index) => {
  const rest = scenes.filter((_, each) => each !== index);
  return rest.map((scene, each) => (each === 0 ? { ...scene, start: 0 } : scene));
};

export const retold = (scenes, index, text) => scenes.map((scene, each) => (each === index ? { ...scene, text } : scene));

// The same story in another length, every scene with its share of it.
export const stretched = (scenes, from, to) => {
  const least = scenes.map((scene, index) => ({ ...scene, start: Math.max(Math.round((scene.start * to) / from), index) }));
  return least.filter((scene) => scene.start < to);
};

const spoken = (phrase) => new RegExp(`(?<!\\p{L})${phrase.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?!\\p{L})`, "u");

// Where the longest of some phrases stands in the words, as [start, end]; undefined where none does.
const placeOf = (text, phrases) => {
  const longest = [...phrases].sort((one, other) => other.length - one.length).find((each) => spoken(each).test(text));
  return longest && [text.search(spoken(longest)), text.search(spoken(longest)) + longest.length];
};

// The words with a phrase in the place of another of its part, or of what stands between its neighbours in the place of
// one; else before what is of a later part, or at the end.
const said = (text, parts, part, phrase) => {
  const places = parts.map(({ phrases }) => placeOf(text, phrases));
  const before = part === 0 ? [0, 0] : places[part - 1];
  const after = part === parts.length - 1 ? [text.length, text.length] : places[part + 1];
  const next = places.slice(part + 1).find(Boolean) ?? [text.length];
  const [start, end] = places[part] ?? (before && after && before[1] <= after[0] ? [before[1], after[0]] : [next[0], next[0]]);
  return [text.slice(0, start), phrase, text.slice(end)].map((each) => each.trim()).filter(Boolean).join(" ");
};

// What a model that knows few words can be asked for, of which every phrase is put into a scene; of others its words.
export function Phrases({ model, text, onChange }) {
  const parts = Object.entries(model.phrases ?? {}).map(([name, phrases]) => ({ name, phrases }));
  if (!parts.length && !model.words?.length) return null;
  return html`<details class="phrases"><summary>What ${model.name} can show</summary>
    ${parts.map(
      ({ name, phrases }, part) => html`<div key=${name} role="group" aria-label=${name}><h3>${name}</h3>
        ${phrases.map((phrase) => html`<button key=${phrase} type="button" aria-pressed=${spoken(phrase).test(text)} onClick=${() => onChange(said(text, parts, part, phrase))}>${phrase}</button>`)}</div>`,
    )}
    ${!parts.length && html`<p class="help">It knows these words: ${model.words.join(", ")}.</p>`}
  </details>`;
}

// The story as --prompts reads it.
export const told = (scenes, fps) => {
  if (scenes.length === 1) return scenes[0].text;
  if (scenes.some((scene) => /[[\]]/.test(scene.text))) {
    return JSON.stringify(Object.fromEntries(scenes.map((scene) => [scene.start, scene.text])), null, 1);
  }
  return scenes.map((scene) => `[${Number((scene.start / fps).toFixed(4))}s: ${scene.text.trim()}]`).join("\n");
};

export function Ruler({ frames, fps }) {
  const seconds = frames / fps;
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];
  const step = steps.find((each) => seconds / each <= 8) ?? 14400;
  const marks = [];
  for (let at = 0; at <= seconds + 1e-6; at += step) marks.push(at);
  return html`<div class="ruler" aria-hidden="true">
    ${marks.map((at) => html`<span key=${at} style=${{ left: `${(100 * at) / seconds}%` }}><i></i><b>${clock(at)}</b></span>`)}
  </div>`;
}

// The scenes side by side, each as long as it lasts.
export function Band({ scenes, frames, chosen, children, onScene }) {
  const shown = scenes.filter((scene) => scene.start < frames);
  return html`<div class="band">
    ${shown.map((scene, index) => {
      const end = Math.min(stop(shown, index, frames), frames);
      const place = { left: `${(100 * scene.start) / frames}%`, width: `${(100 * (end - scene.start)) / frames}%`, "--hue": hue(index) };
      return html`<div key=${index} class="scene" data-chosen=${chosen === index} style=${place} title=${scene.text} onPointerDown=${onScene && ((event) => onScene(index, event))}>
        <span>${scene.text || "Say what this scene shows"}</span>
      </div>`;
    })}
    ${children}
  </div>`;
}

export function Strip({ scenes, frames, fps, chosen, onChoose, onChange }) {
  const band = useRef(null);
  const [held, setHeld] = useState(null);
  const latest = useRef(scenes);
  latest.current = scenes;

  const frameAt = (event) => {
    const { left, width } = band.current.getBoundingClientRect();
    return between(0, ((event.clientX - left) / width) * frames, frames);
  };
  const keys = (index) => (event) => {
    const step = event.shiftKey ? Math.max(Math.round(fps), 1) : 1;
    const to = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step }[event.key];
    if (to) onChange(moved(scenes, index, scenes[index].start + to, frames));
    else if (event.key === "Delete" || event.key === "Backspace") onChange(removed(scenes, index));
    else return;
    event.preventDefault();
  };
  return html`<div class="strip">
    <${Ruler} frames=${frames} fps=${fps} />
    <div class="editing" ref=${band} onDblClick=${(event) => {
      const at = frameAt(event);
      const index = scenes.findLastIndex((scene) => scene.start <= at);
      onChange(split(scenes, index, at, frames));
      onChoose(index + 1);
    }}>
      <${Band} scenes=${scenes} frames=${frames} chosen=${chosen} onScene=${onChoose}>
        ${scenes.slice(1).map((scene, before) => {
          const index = before + 1;
          return html`<button key=${index} type="button" class="edge" data-held=${held === index} style=${{ left: `${(100 * scene.start) / frames}%` }}
            role="slider" aria-label=${`Start of scene ${index + 1}`} aria-valuemin=${scenes[before].start + 1} aria-valuemax=${stop(scenes, index, frames) - 1}
            aria-valuenow=${scene.start} aria-valuetext=${clock(scene.start / fps, 1)}
            onPointerDown=${(event) => {
              event.currentTarget.setPointerCapture(event.pointerId);
              setHeld(index);
              onChoose(index);
            }}
            onPointerMove=${(event) => held === index && onChange(moved(latest.current, index, frameAt(event), frames))}
            onPointerUp=${() => setHeld(null)} onPointerCancel=${() => setHeld(null)} onKeyDown=${keys(index)}>
            ${held === index && html`<span class="at">${clock(scene.start / fps, 1)}</span>`}
          </button>`;
        })}
      <//>
    </div>
  </div>`;
}

// Seconds that are taken once they are typed to the end, whatever else changes meanwhile.
export function Seconds({ value, onChange, ...rest }) {
  const [typed, setTyped] = useState(null);
  const take = (text) => {
    setTyped(null);
    if (text.trim() !== "") onChange(Number(text));
  };
  return html`<input type="number" step="any" value=${typed ?? Number(value.toFixed(2))} onInput=${(event) => setTyped(event.currentTarget.value)}
    onChange=${(event) => take(event.currentTarget.value)} ...${rest} />`;
}

// A text that is as high as what it says, also when a phone is turned.
export function Lines({ value, onInput, isFirst, ...rest }) {
  const area = useRef(null);
  const fit = () => {
    area.current.style.height = "auto";
    area.current.style.height = `${area.current.scrollHeight + 2}px`;
  };
  useLayoutEffect(() => {
    if (isFirst) area.current.focus();
    addEventListener("resize", fit);
    return () => removeEventListener("resize", fit);
  }, []);
  useLayoutEffect(fit, [value]);
  return html`<textarea ref=${area} rows="1" value=${value} onInput=${(event) => onInput(event.currentTarget.value)} ...${rest}></textarea>`;
}

export function Scenes({ scenes, frames, fps, chosen, onChoose, onChange }) {
  return html`<ol class="scenes">
    ${scenes.map(
      (scene, index) => html`<li key=${index} data-chosen=${chosen === index} style=${{ "--hue": hue(index) }} onfocusin=${() => onChoose(index)}>
        <label class="start"><span class="unseen">Start of scene ${index + 1}, in seconds</span>
          ${
            index === 0
              ? html`<input value="0" disabled />`
              : html`<${Seconds} min="0" max=${(frames - 1) / fps} value=${scene.start / fps} onChange=${(to) => onChange(moved(scenes, index, to * fps, frames))} />`
          }<span aria-hidden="true">s</span></label>
        <${Lines} aria-label=${`Scene ${index + 1}`} placeholder="Say what this scene shows" value=${scene.text} onInput=${(text) => onChange(retold(scenes, index, text.replaceAll("\n", " ")))} />
        <div class="tools">
          <button type="button" class="quiet" disabled=${stop(scenes, index, frames) - scene.start < 2}
            onClick=${() => onChange(split(scenes, index, (scene.start + stop(scenes, index, frames)) / 2, frames))}>Split</button>
          <button type="button" class="quiet" disabled=${scenes.length < 2} onClick=${() => onChange(removed(scenes, index))}>Remove</button>
        </div>
      </li>`,
    )}
  </ol>`;
}
