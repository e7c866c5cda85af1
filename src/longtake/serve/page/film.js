// A film while it is made and after: picture, story and curves on one width of time, and what one can do with it.

import * as api from "./api.js";
import { usePlan } from "./compose.js";
import { Colours, Curve, CURVES, joined, rowAt } from "./curves.js";
import { Player } from "./player.js";
import { Band, Lines, Ruler, told } from "./story.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.module.js";
import { bytes, clock, count, counted, isOver, lasting, stated, taken, titled, warned } from "./words.js";

const pause = (milliseconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

// Follows a film by the server's news, and takes them up again after every silence.
function useFilm(id) {
  const [film, setFilm] = useState(null);
  const [figures, setFigures] = useState([]);
  const [problem, setProblem] = useState(null);
  const [turn, setTurn] = useState(0);
  const take = (latest) => {
    setFilm(latest);
    // One that was given up goes on.
    if (isOver(film) && !isOver(latest)) setTurn(turn + 1);
  };
  useEffect(() => {
    const stop = new AbortController();
    (async () => {
      while (!stop.signal.aborted) {
        try {
          let latest = null;
          for await (const { event, data } of api.events(id, stop.signal)) {
            if (event === "figures") setFigures((known) => joined(known, data.data));
            if (event === "deleted") return setProblem("This film was deleted.");
            if (event !== "progress") continue;
            setFilm((latest = data));
            setProblem(null);
          }
          if (latest && isOver(latest)) return;
        } catch (error) {
          if (error.name === "AbortError") return;
          if (error instanceof api.Refusal && error.status === 404) return setProblem("There is no such film here.");
          if (error instanceof api.Refusal && error.status !== 401) setProblem(error.message);
        }
        await pause(1000, stop.signal);
      }
    })();
    return () => stop.abort();
  }, [id, turn]);
  return { film, figures, problem, take };
}

export function FilmPage({ id, at, films, onOpen, onAgain, onGone, link }) {
  const { film, figures, problem, take } = useFilm(id);
  if (problem) return html`<div class="empty"><p>${problem}</p><a class="button" href="#/films">All films</a></div>`;
  if (!film) return html`<div class="empty soft"><p>${link === "lost" ? "Waiting for the server…" : "Opening…"}</p></div>`;
  return html`<${Film} key=${id} film=${film} figures=${figures} at=${at} films=${films} link=${link} onOpen=${onOpen} onAgain=${onAgain} onGone=${onGone} onFilm=${take} />`;
}

function Film({ film, figures, at, films, link, onOpen, onAgain, onGone, onFilm }) {
  const video = useRef(null);
  const player = useRef(null);
  const [played, setMoment] = useState(at ?? 0);
  const [plays, setPlays] = useState(false);
  const [waits, setWaits] = useState(false);
  const [unplayable, setUnplayable] = useState(null);
  const [panel, setPanel] = useState(null);
  const [problem, setProblem] = useState(null);
  const seconds = (film.frames ?? film.made) / film.fps;
  const ready = film.made / film.fps;
  // The clock of a film that waits for frames runs on a little.
  const moment = film.made ? Math.min(played, (film.made - 1) / film.fps) : 0;
  // A moment is where a frame that is there begins.
  const goTo = (to) => {
    const frame = Math.min(Math.max(Math.round(to * film.fps), 0), Math.max(film.made - 1, 0));
    video.current.currentTime = (frame + 0.01) / film.fps;
    setMoment(frame / film.fps);
  };
  // As at an editing desk: pointing at a moment stops there; from there one plays, or makes another take.
  const pick = (to) => {
    video.current.autoplay = false;
    video.current.pause();
    goTo(to);
  };
  const toggle = () => (video.current.paused ? video.current.play().catch(() => {}) : video.current.pause());

  useEffect(() => {
    player.current = new Player(video.current, film, setUnplayable);
    if (at) video.current.currentTime = at;
    // What is being made is watched while it is made.
    video.current.autoplay = !isOver(film);
    return () => player.current.close();
  }, []);
  useEffect(() => player.current.update(film), [film]);
  // So that one sees from elsewhere how far it is.
  useEffect(() => {
    const share = film.state === "in_progress" && film.frames ? `${Math.floor((100 * film.made) / film.frames)} %, ` : "";
    document.title = `${share}${titled(film)} - longtake`;
  }, [film]);
  useEffect(() => {
    let frame = 0;
    const follow = () => {
      setMoment(video.current.currentTime);
      frame = requestAnimationFrame(follow);
    };
    if (plays) follow();
    return () => cancelAnimationFrame(frame);
  }, [plays]);
  useEffect(() => {
    const keys = (event) => {
      if (event.target.closest("input, textarea, select, button, a, summary") || event.ctrlKey || event.metaKey || event.altKey) return;
      const by = { ArrowLeft: -1, ArrowRight: 1, ",": -1 / film.fps, ".": 1 / film.fps }[event.key];
      if (event.key === " " || event.key === "k") toggle();
      else if (by) goTo(video.current.currentTime + by);
      else if (event.key === "Home") goTo(0);
      else if (event.key === "End") goTo(ready);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, [ready, film.fps]);

  const attempt = async (act) => {
    setProblem(null);
    try {
      return await act();
    } catch (error) {
      setProblem(error.message);
    }
  };
  const command = (verb) => attempt(async () => onFilm(await api.command(film.id, verb)));
  const open = (kind) => {
    if (kind === "redo") video.current.pause();
    setPanel(kind);
  };
  const made = (take, from) => {
    setPanel(null);
    onOpen(take, from);
  };

  return html`<article class="film">
    <header class="title"><h1>${titled(film)}</h1>${film.prompts.length > 1 && html`<span class="soft">and ${film.prompts.length - 1} more ${film.prompts.length > 2 ? "scenes" : "scene"}</span>`}</header>
    <div class="stage">
      <div class="screen" data-small=${film.width < 400} style=${{ aspectRatio: film.width ? `${film.width} / ${film.height}` : "16 / 9" }}>
        <video ref=${video} playsinline muted aria-label="The film" onClick=${toggle}
          onPlay=${() => setPlays(true)} onPause=${() => setPlays(false)} onEnded=${() => setPlays(false)}
          onWaiting=${() => setWaits(true)} onPlaying=${() => setWaits(false)} onCanPlay=${() => setWaits(false)}
          onSeeked=${() => (setMoment(video.current.currentTime), player.current?.moved())} onTimeUpdate=${() => player.current?.moved()}></video>
        <${Veil} film=${film} waits=${waits && plays} unplayable=${unplayable} />
      </div>
    </div>
    <div class="transport">
      <button type="button" class="play" aria-label=${plays ? "Pause" : "Play"} disabled=${!film.made} onClick=${toggle}><span class=${plays ? "bars" : "triangle"}></span></button>
      <output class="clock"><b>${clock(moment, 1)}</b> <span class="soft">of ${clock(seconds)}</span></output>
      ${!isOver(film) && film.made > 0 && html`<button type="button" class="quiet" onClick=${() => (goTo(ready - 1), video.current.play().catch(() => {}))}>Newest</button>`}
      <span class="keys soft">space plays · ← → a second · , . a frame</span>
    </div>
    <${Timeline} film=${film} figures=${figures} seconds=${seconds} ready=${ready} moment=${moment} onMoment=${pick} />
    <${Actions} film=${film} moment=${moment} panel=${panel} onPanel=${open} />
    ${panel && html`<${Panel} key=${panel} kind=${panel} film=${film} moment=${moment} onMade=${made} onFilm=${onFilm} onClose=${() => setPanel(null)} />`}
    ${problem && html`<p class="refusal" role="alert">${problem}</p>`}
    <aside class="facts">
      <${Progress} film=${film} link=${link} onCommand=${command} />
      <${Takes} film=${film} films=${films} />
      <section><h2>Take it with you</h2><div class="downloads">${api.downloads(film).map((each) => html`<${Download} key=${each.kind} ...${each} disabled=${!film.made} />`)}</div></section>
      <section><h2>How it is made</h2>
        <dl>${[["Model", film.model], ["Method", film.sampler], ["Seed", film.seed], ["Picture", `${film.width} × ${film.height}`], ["Length", film.frames ? `${clock(film.frames / film.fps)}, ${counted(film.frames, "frame")}` : "endless"]].map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
        <div class="row"><button type="button" class="quiet" onClick=${() => onAgain(film)}>Make again, with changes</button>
          <${Sure} word="Delete" onSure=${() => attempt(async () => (await api.remove(film.id), onGone()))} /></div>
      </section>
    </aside>
  </article>`;
}

function Veil({ film, waits, unplayable }) {
  if (unplayable) return html`<p class="veil">${unplayable}</p>`;
  if (!film.made && film.state === "queued") return html`<p class="veil">${film.position > 1 ? `${film.position - 1} before this one` : "Next in line"}</p>`;
  if (!film.made && film.state === "in_progress") return html`<p class="veil"><span class="turning"></span>${film.doing ? film.doing[0].toUpperCase() + film.doing.slice(1) : "The first frames are being made"}</p>`;
  if (!film.made) return html`<p class="veil">No frame was made</p>`;
  if (waits && film.state === "in_progress") return html`<p class="veil low"><span class="turning"></span>Waiting for the next frames</p>`;
  return null;
}

const NEAR = 5; // pixels

// Everything that has a time: what is ready, the scenes, the curves; a click is a moment.
function Timeline({ film, figures, seconds, ready, moment, onMoment }) {
  const area = useRef(null);
  const frames = film.frames ?? Math.max(film.made, 1);
  const toMoment = (event) => {
    const { left, width } = area.current.getBoundingClientRect();
    const at = event.clientX - left;
    // Whoever points at the start of a scene means it.
    const scene = film.prompts.find(({ start }) => Math.abs((start / frames) * width - at) < NEAR);
    onMoment(scene ? scene.start / film.fps : (at / width) * seconds);
  };
  const now = Math.min(Math.floor(moment * film.fps + 1e-3), Math.max(film.made - 1, 0));
  const row = rowAt(figures, now);
  return html`<section class="timeline" aria-label="Timeline">
    <div class="track head"><span></span><${Ruler} frames=${frames} fps=${film.fps} /></div>
    <div class="track"><span class="name">Story</span>
      <div class="lane"><${Band} scenes=${film.prompts} frames=${frames} chosen=${film.prompts.findLastIndex((scene) => scene.start <= now)} />
        <div class="unmade" style=${{ left: `${Math.min((100 * ready) / seconds, 100)}%` }}></div></div></div>
    <div class="track thin" title="The mean colour of every moment."><span class="name">Colour</span><div class="lane"><${Colours} rows=${figures} frames=${frames} /></div></div>
    ${CURVES.map((curve) => {
      const value = row && curve.at(row, now);
      return html`<div class="track" key=${curve.key} title=${curve.help}><span class="name">${curve.label}<b>${value == null ? "" : curve.said(value)}</b></span>
        <div class="lane"><${Curve} curve=${curve} rows=${figures} fps=${film.fps} seconds=${seconds} /></div></div>`;
    })}
    <div class="over" ref=${area} onPointerDown=${(event) => (event.currentTarget.setPointerCapture(event.pointerId), toMoment(event))} onPointerMove=${(event) => event.buttons && toMoment(event)}>
      <div class="playhead" style=${{ left: `${seconds ? Math.min((100 * moment) / seconds, 100) : 0}%` }} role="slider" tabindex="0" aria-label="Moment" aria-valuemin="0" aria-valuemax=${Math.round(ready)} aria-valuenow=${Math.round(moment)} aria-valuetext=${clock(moment, 1)}></div>
    </div>
  </section>`;
}

function Actions({ film, moment, panel, onPanel }) {
  const toggled = (kind) => () => onPanel(panel === kind ? null : kind);
  const chip = (kind, label, isUsable) => html`<button type="button" class="chip" aria-expanded=${panel === kind} disabled=${!isUsable} onClick=${toggled(kind)}>${label}</button>`;
  const isMade = film.made > 0;
  return html`<div class="actions">
    ${chip("redo", `Redo from ${clock(moment, 1)}`, isMade && moment > 0)}
    ${isOver(film) ? chip("extend", "Make it longer", isMade) : chip("tell", "Change what comes next", film.takes && film.made > 0)}
  </div>`;
}

const scenesFrom = (film, frame) => {
  const index = film.prompts.findLastIndex((scene) => scene.start <= frame);
  return film.prompts.slice(Math.max(index, 0)).map((scene) => ({ start: Math.max(scene.start - frame, 0), text: scene.text }));
};

const PANELS = {
  redo: { title: (at) => `From ${clock(at, 1)} on`, help: "Other words, or another seed, make a new take. What comes before stays as it is, and so does this one.", word: "Make this take" },
  extend: { title: () => "And then", help: "A new take that goes on where this one ends.", word: "Go on" },
  tell: { title: (at) => `What comes after ${clock(at, 1)}`, help: "Change any of the words, or their times, which count from there. What has begun stays as it is.", word: "Tell it" },
};

function Panel({ kind, film, moment, onMade, onFilm, onClose }) {
  const { title, help, word } = PANELS[kind];
  const frame = Math.round(moment * film.fps);
  // Where it was when one began to change what comes.
  const [since] = useState(film.made);
  // The words of the moment, or of all that comes, until others are typed.
  const usual = { redo: () => scenesFrom(film, frame)[0].text, extend: () => film.prompts.at(-1).text, tell: () => told(scenesFrom(film, since), film.fps) }[kind]();
  const [typed, setTyped] = useState(null);
  const text = typed ?? usual;
  const isOther = text !== usual;
  const [length, setLength] = useState(8);
  const [isNewSeed, setNewSeed] = useState(false);
  const [isSoft, setSoft] = useState(false);
  const [seed] = useState(() => Math.floor(Math.random() * 1e6));
  const [problem, setProblem] = useState(null);
  const [sending, setSending] = useState(false);
  const change = useMemo(() => {
    if (kind === "extend") return { num_frames: Math.max(Math.round(length * film.fps), 1), ...(isOther ? { prompt: text } : {}) };
    return { from_frame: frame, keep_queue: isSoft, ...(isOther ? { prompts: retoldFrom(film, frame, text) } : {}), ...(isNewSeed ? { seed } : {}) };
  }, [kind, frame, text, isOther, length, isNewSeed, isSoft]);
  const asked = useMemo(() => ({ video: { id: film.id }, ...change }), [change]);
  const isChange = text.trim() !== "" && (isOther || isNewSeed || kind === "extend");
  const plan = usePlan(asked, kind !== "tell" && isChange);
  const refusal = plan.isOld || !isChange ? null : plan.refusal;

  const send = async (event) => {
    event.preventDefault();
    setSending(true);
    setProblem(null);
    try {
      if (kind === "redo") onMade(await api.redo(film.id, change), Math.max(moment - 1, 0));
      else if (kind === "extend") onMade(await api.extend(film.id, change), Math.max(film.made / film.fps - 1, 0));
      else {
        onFilm(await api.tell(film.id, text, since));
        onClose();
      }
    } catch (error) {
      setProblem(error.message);
    }
    setSending(false);
  };
  return html`<form class="panel" onSubmit=${send}>
    <h2>${title(kind === "tell" ? since / film.fps : moment)}</h2>
    <${Lines} aria-label="Prompt" isFirst=${true} value=${text} onInput=${setTyped} placeholder="Say what happens" />
    <div class="row">
      ${kind === "extend" && html`<label>for <input type="number" min="0.1" step="any" value=${length} onInput=${(event) => setLength(Number(event.currentTarget.value))} /> s</label>`}
      ${kind === "redo" && html`<label><input type="checkbox" checked=${isNewSeed} onChange=${(event) => setNewSeed(event.currentTarget.checked)} /> with another seed</label>`}
      ${kind === "redo" && film.sampler === "fifo" && html`<label title="What is half made at that moment goes on under the new words, rather than beginning anew."><input type="checkbox" checked=${isSoft} onChange=${(event) => setSoft(event.currentTarget.checked)} /> softly</label>`}
      <button class="main" disabled=${sending || !isChange || refusal !== null}>${sending ? "One moment…" : word}</button>
      <button type="button" class="quiet" onClick=${onClose}>Not now</button>
    </div>
    <p class="help">${help}${isChange && !plan.isOld && plan.found && html` <${Cost} plan=${plan.found} fps=${film.fps} />`}</p>
    ${isChange && !plan.isOld && plan.found?.warnings.map((warning) => html`<p key=${warning} class="warning">${warned(warning, "“Make again, with changes” lists what it can show")}</p>`)}
    ${refusal && html`<p class="refusal" role="alert">${refusal.message}</p>`}
    ${problem && html`<p class="refusal" role="alert">${problem}</p>`}
  </form>`;
}

function Cost({ plan, fps }) {
  const { made_from: from, frames, holds_from: holds, dissolves } = plan;
  const soft = dissolves ? " The change dissolves, and the old object may stay to the end; “Make again, with changes” cuts cleanly at a scene’s edge." : "";
  const words = (holds === null ? "" : holds < frames ? ` From about ${clock(holds / fps, 1)} on only the new words count.` : " It ends before only the new words count.") + soft;
  return html`<span>${from !== null && `That makes ${counted(frames - from, "frame")}, from ${clock(from / fps, 1)} on.`}${words} ${plan.notes.join(" ")}</span>`;
}

// The scene of the moment is told anew; those after it stay.
const retoldFrom = (film, frame, text) => scenesFrom(film, frame).map((scene, index) => (index === 0 ? { start: 0, text } : scene));

function Progress({ film, link, onCommand }) {
  const share = film.frames ? Math.min((100 * film.made) / film.frames, 100) : 0;
  const rows = [
    film.state !== "completed" && ["Ready", `${clock(film.made / film.fps, 1)}${film.frames ? ` of ${clock(film.frames / film.fps)}` : ""}`],
    film.state === "in_progress" && ["Time left", film.left == null ? "not known yet" : lasting(film.left)],
    film.state === "in_progress" && film.speed && ["Speed", `${count(film.speed)} frames a second`],
    film.memory && ["Memory", bytes(film.memory)],
    film.state === "in_progress" && film.doing && ["Just now", film.doing],
  ].filter(Boolean);
  return html`<section class="progress" data-state=${film.state}>
    <p class="state" role="status"><i></i>${link === "lost" && !isOver(film) ? "Not connected" : stated(film)}${film.state === "queued" && film.position ? `, number ${film.position} in line` : ""}</p>
    <div class="bar" role="progressbar" aria-label="Made" aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(share)}><i style=${{ width: `${share}%` }}></i></div>
    ${film.error && film.state !== "cancelled" && html`<p class="refusal">${film.error}</p>`}
    <dl>${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <div class="row">
      ${(film.state === "in_progress" || film.state === "queued") && html`<button type="button" class="quiet" onClick=${() => onCommand("pause")}>Pause</button>`}
      ${(film.state === "paused" || film.state === "cancelled") && html`<button type="button" class="quiet" onClick=${() => onCommand("resume")}>Go on</button>`}
      ${!isOver(film) && html`<${Sure} word="Stop here" onSure=${() => onCommand("cancel")} />`}
      ${film.state === "failed" && html`<button type="button" class="quiet" onClick=${() => onCommand("resume")}>Try to go on</button>`}
    </div>
  </section>`;
}

// The takes that belong together, as a tree: each under the one that it goes on from.
function Takes({ film, films }) {
  const all = useMemo(() => new Map([...films, film].map((each) => [each.id, each])), [films, film]);
  let root = film;
  while (root.parent && all.has(root.parent)) root = all.get(root.parent);
  const children = (id) => [...all.values()].filter((each) => each.parent === id).sort((a, b) => a.at - b.at);
  const family = [];
  const visit = (each) => (family.push(each), children(each.id).forEach(visit));
  visit(root);
  if (family.length < 2) return null;
  const number = new Map([...family].sort((a, b) => a.at - b.at).map((each, index) => [each.id, index + 1]));
  const branch = (each) => html`<li key=${each.id}>
    <a href=${`#/film/${each.id}`} aria-current=${each.id === film.id ? "page" : undefined}><i data-state=${each.state}></i><b>Take ${number.get(each.id)}</b>
      <span>${taken(each) ?? "the first"} · ${clock((each.frames ?? each.made) / each.fps)}</span></a>
    ${children(each.id).length > 0 && html`<ul>${children(each.id).map(branch)}</ul>`}
  </li>`;
  return html`<section><h2>Takes</h2><ul class="takes">${branch(root)}</ul></section>`;
}

function Download({ name, label, kind, path, disabled }) {
  const get = async () => {
    const blob = await (await api.ask(path)).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
  const inside = html`${label} <span class="soft">${kind}</span>`;
  if (disabled) return html`<button type="button" class="chip" disabled>${inside}</button>`;
  if (api.hasToken()) return html`<button type="button" class="chip" onClick=${get}>${inside}</button>`;
  return html`<a class="chip" href=${path} download=${name}>${inside}</a>`;
}

// A button for what cannot be undone: it asks once more.
export function Sure({ word, onSure }) {
  const [asks, setAsks] = useState(false);
  useEffect(() => {
    if (!asks) return;
    const timer = setTimeout(() => setAsks(false), 4000);
    return () => clearTimeout(timer);
  }, [asks]);
  return html`<button type="button" class="quiet" data-asks=${asks} onClick=${() => (asks ? (setAsks(false), onSure()) : setAsks(true))}>${asks ? `${word}: sure?` : word}</button>`;
}
