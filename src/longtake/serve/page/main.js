// The page: where one is in it, what the server is like, and what follows the films.

import * as api from "./api.js";
import { again, Compose, keep, remembered } from "./compose.js";
import { FilmPage } from "./film.js";
import { Films } from "./films.js";
import { html, render, useCallback, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { isOver } from "./words.js";

const BACK = 5000; // how long one is told that the server is there again

const where = () => {
  const [, name = "", rest = ""] = location.hash.match(/^#\/(\w+)(?:\/([\w-]+))?/) ?? [];
  return { name, id: rest };
};

function useRoute() {
  const [route, setRoute] = useState(where());
  useEffect(() => {
    const follow = () => {
      setRoute(where());
      scrollTo(0, 0);
      // Whoever goes by keys goes on at the top of what is new.
      document.getElementById("main").focus({ preventScroll: true });
    };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}

// reached, lost, or back; and whether a token is asked for.
function useLink() {
  const [link, setLink] = useState("reached");
  const [asksToken, setAsksToken] = useState(false);
  useEffect(() => {
    let timer = 0;
    return api.onLink((news) => {
      if (news === "token") return setAsksToken(true);
      clearTimeout(timer);
      if (news === "lost") return setLink("lost");
      setLink((before) => (before === "lost" ? "back" : before));
      timer = setTimeout(() => setLink("reached"), BACK);
    });
  }, []);
  return { link, asksToken, setAsksToken };
}

// Asks again and again, sooner while something is going on; not while `key` is null.
function useAsked(ask, wait, key) {
  const [found, setFound] = useState(null);
  const again = useRef(() => {});
  useEffect(() => {
    if (key === null) return;
    let timer = 0;
    let isOver = false;
    const look = async () => {
      clearTimeout(timer);
      let answer = null;
      try {
        answer = await ask();
      } catch {
        // Said by the link, or by the form for the token.
      }
      if (isOver) return;
      if (answer !== null) setFound(answer);
      const next = wait(answer);
      if (next) timer = setTimeout(look, document.hidden ? next * 5 : next);
    };
    again.current = look;
    look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [key]);
  return [found, useCallback(() => again.current(), [])];
}

const listed = async () => {
  const films = await api.films();
  // Who waits wants to know why.
  const halt = films.some((film) => !isOver(film)) ? await api.halt() : null;
  return { films, halt };
};

const filmsWait = (found) => (found === null ? 1500 : found.films.some((film) => !isOver(film)) ? 2000 : 6000);

const news = (link, halt) => {
  if (link === "lost") return "The server does not answer. Nothing is lost; this page looks again every moment.";
  if (link === "back") return "The server is back. What was being made goes on.";
  return halt === null ? "" : `Nothing is made just now: ${halt}`;
};

function Page() {
  const route = useRoute();
  const { link, asksToken, setAsksToken } = useLink();
  const [tries, setTries] = useState(0);
  const [options] = useAsked(api.options, (found) => (found ? 0 : 1500), asksToken ? null : tries);
  const [found, refresh] = useAsked(listed, filmsWait, asksToken ? null : tries);
  const { films, halt } = found ?? { films: null, halt: null };
  const from = useRef(null);
  const [draft, setDraft] = useState({ number: 0, given: null });

  useEffect(() => {
    if (!route.name && films) location.replace(films.length ? "#/films" : "#/new");
  }, [route.name, films]);
  useEffect(() => {
    const name = { new: "New film", films: "Films" }[route.name];
    document.title = name ? `${name} - longtake` : "longtake";
  }, [route.name]);

  const open = (film, at) => {
    from.current = { id: film.id, at };
    refresh();
    location.hash = `#/film/${film.id}`;
  };
  const makeAgain = (film) => {
    const given = again(film, films ?? [], options);
    keep(given);
    setDraft({ number: draft.number + 1, given });
    location.hash = "#/new";
  };
  const current = (name) => (route.name === name ? "page" : undefined);
  const working = (films ?? []).filter((film) => film.state === "in_progress").length;

  return html`<a class="skip" href="#main">To the contents</a>
    <header class="top">
      <a class="mark" href="#/films" aria-label="longtake: all films"><i data-live=${working > 0}></i>longtake</a>
      <nav><a href="#/films" aria-current=${current("films")}>Films</a><a href="#/new" aria-current=${current("new")}>New film</a></nav>
    </header>
    <p class="news" role="status" data-link=${link}>${news(link, halt)}</p>
    <main id="main" tabindex="-1">
      ${asksToken && html`<${Token} onToken=${(token) => (api.enter(token), setAsksToken(false), setTries(tries + 1))} />`}
      ${
        !asksToken &&
        (route.name === "new"
          ? options
            ? html`<${Compose} key=${draft.number} options=${options} draft=${draft.given ?? remembered(options)} onMade=${open} />`
            : html`<div class="empty soft"><p>${link === "lost" ? "Waiting for the server…" : "Looking…"}</p></div>`
          : route.name === "film"
            ? html`<${FilmPage} key=${route.id} id=${route.id} at=${from.current?.id === route.id ? from.current.at : 0} films=${films ?? []} link=${link}
                onOpen=${open} onAgain=${makeAgain} onGone=${() => (refresh(), (location.hash = "#/films"))} />`
            : html`<${Films} films=${films} link=${link} onAgain=${makeAgain} onChange=${refresh} />`)
      }
    </main>
    <footer>longtake · <a href="docs">HTTP interface</a></footer>`;
}

function Token({ onToken }) {
  const [token, setToken] = useState("");
  return html`<form class="empty" onSubmit=${(event) => (event.preventDefault(), onToken(token.trim()))}>
    <h1>This server asks for its token</h1><p class="soft">Whoever started it has it. It stays in this tab.</p>
    ${api.hasToken() && html`<p class="refusal" role="alert">The one that was given is not this server's.</p>`}
    <div class="row"><input type="password" autocomplete="current-password" aria-label="Token" value=${token} onInput=${(event) => setToken(event.currentTarget.value)} /><button class="main">Enter</button></div>
  </form>`;
}

render(html`<${Page} />`, document.getElementById("page"));
