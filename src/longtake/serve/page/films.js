// All films: what is being made, what waits, and what is there.

import * as api from "./api.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { clock, distinguished, isOver, lasting, longAgo, stated, taken } from "./words.js";

export function Films({ films, link, onAgain, onChange }) {
  if (!films) return html`<div class="empty soft"><p>${link === "lost" ? "Waiting for the server…" : "Looking…"}</p></div>`;
  if (!films.length) {
    return html`<div class="empty"><div class="reel" aria-hidden="true"><i></i><i></i><i></i><i></i></div>
      <h1>No film yet</h1><p class="soft">Tell a story in a few scenes. It plays while it is made, and you can change your mind on the way.</p>
      <a class="button main" href="#/new">Begin a film</a></div>`;
  }
  const open = films.filter((film) => !isOver(film)).sort((a, b) => (a.position ?? 0) - (b.position ?? 0) || a.at - b.at);
  const over = films.filter(isOver).sort((a, b) => b.at - a.at);
  const move = async (film, position) => {
    await api.command(film.id, "move", { position }).catch(() => {});
    onChange();
  };
  return html`<div class="films">
    ${
      open.length > 0 &&
      html`<section><h2>In the making</h2><ol class="queue">
        ${open.map(
          (film) => html`<li key=${film.id} data-state=${film.state}>
            <a href=${`#/film/${film.id}`}><${Picture} film=${film} /><span class="what"><b>${distinguished(film)}</b><${Say} film=${film} /></span></a>
            ${film.state === "queued" && film.position > 1 && html`<button type="button" class="quiet" onClick=${() => move(film, film.position - 1)}>Earlier</button>`}
          </li>`,
        )}</ol></section>`
    }
    ${
      over.length > 0 &&
      html`<section><h2>Films</h2><ul class="gallery">
        ${over.map(
          (film) => html`<li key=${film.id} data-state=${film.state}>
            <a href=${`#/film/${film.id}`}><${Picture} film=${film} /><b>${distinguished(film)}</b></a>
            <p class="soft"><${Say} film=${film} /></p>
            <p class="soft">${film.model} · ${film.sampler} · seed ${film.seed}</p>
            <button type="button" class="quiet" onClick=${() => onAgain(film)}>Make again</button>
          </li>`,
        )}</ul></section>`
    }
  </div>`;
}

function Say({ film }) {
  const length = clock((film.frames ?? film.made) / film.fps);
  if (film.state === "completed") return html`<span>${[length, taken(film), longAgo(film.at)].filter(Boolean).join(", ")}</span>`;
  if (film.state === "in_progress") {
    const left = film.left == null ? "" : `, ${lasting(film.left)} left`;
    return html`<span class="doing"><i></i>${clock(film.made / film.fps)} of ${length}${left}</span>`;
  }
  const place = film.state === "queued" && film.position ? `, number ${film.position} in line` : "";
  return html`<span class="doing"><i></i>${stated(film)}${place}${film.made ? `, ${clock(film.made / film.fps)} of ${length}` : ""}</span>`;
}

function Picture({ film }) {
  const [address, setAddress] = useState(null);
  const has = film.made > 0;
  // All takes begin alike, so that each shows how it ends.
  const frame = film.parent && isOver(film) ? film.made - 1 : 0;
  const held = useRef(null);
  useEffect(() => {
    let isGone = false;
    if (has) {
      api.picture(film.id, frame).then(
        (blob) => {
          if (!isGone) setAddress((held.current = URL.createObjectURL(blob)));
        },
        () => {},
      );
    }
    return () => {
      isGone = true;
      if (held.current) URL.revokeObjectURL(held.current);
    };
  }, [film.id, has, frame]);
  return html`<span class="picture">${address && html`<img src=${address} alt="" />`}</span>`;
}
