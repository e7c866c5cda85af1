// Plays a film that is still being made: its bytes go into a MediaSource as they come, fragment by fragment.

import { bytesFrom, Silence } from "./api.js";

const BEHIND = 20; // seconds that stay in memory behind the moment that plays, where memory runs out
const AHEAD = 120; // seconds that are taken in ahead of it

export class Player {
  #video;
  #source = null;
  #buffer = null;
  #stop = null;
  #wake = () => {}; // ends a wait for news of the film
  #room = () => {}; // ends a wait for room in the buffer
  #film;
  #told;
  #played = 0; // bytes of the film that the buffer has taken

  // told(problem): what keeps the film from playing, in words; null once it does.
  constructor(video, film, told) {
    this.#video = video;
    this.#film = film;
    this.#told = told;
    this.#open();
  }

  // Takes what is new of the film.
  update(film) {
    const before = this.#film;
    this.#film = film;
    if (isLast(before) && !isLast(film)) this.#again();
    else if (isNews(film, before)) this.#wake();
  }

  // The moment that plays has changed: there may be room again, or what plays there was let go of.
  moved() {
    const { buffered, currentTime } = this.#video;
    if (buffered.length && currentTime < buffered.start(0) - 0.5) this.#again();
    this.#room();
  }

  close() {
    this.#end();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  #again() {
    const { currentTime } = this.#video;
    this.#end();
    this.#open();
    // One that had ended stands behind its last frame, where nothing can be shown until more comes.
    const { made, fps } = this.#film;
    this.#video.currentTime = Math.min(currentTime, Math.max(made - 0.5, 0) / fps);
  }

  #end() {
    this.#stop.abort();
    this.#wake();
    this.#room();
  }

  async #open() {
    const stop = new AbortController();
    this.#stop = stop;
    this.#buffer = null;
    this.#played = 0;
    if (!window.MediaSource) return this.#told("This browser cannot play a film while it is made; download it below.");
    this.#source = new MediaSource();
    const address = URL.createObjectURL(this.#source);
    this.#video.src = address;
    await new Promise((resolve) => this.#source.addEventListener("sourceopen", resolve, { once: true }));
    URL.revokeObjectURL(address);
    const boxes = new Boxes();
    while (!stop.signal.aborted) {
      const film = this.#film;
      try {
        if (film.made) await this.#take(boxes, stop.signal);
        if (isLast(film)) break;
        if (!isNews(this.#film, film)) await this.#news();
      } catch (error) {
        if (error.name === "AbortError" || stop.signal.aborted) return;
        if (error instanceof Unplayable) return this.#told(error.message);
        if (!(error instanceof Silence)) this.#told(error.message);
        boxes.drop();
        await this.#news(1000);
      }
    }
    if (!stop.signal.aborted && this.#source.readyState === "open") this.#source.endOfStream();
  }

  // Plays what there is behind the bytes that were played before.
  async #take(boxes, signal) {
    const start = this.#played + boxes.waiting;
    const answer = await bytesFrom(this.#film.id, start, signal);
    if (answer.status === 416 || answer.status === 204) return;
    const reader = answer.body.getReader();
    // What ignores the range begins anew.
    let skip = answer.status === 200 ? start : 0;
    try {
      for (;;) {
        let part;
        try {
          part = await reader.read();
        } catch (error) {
          if (error.name === "AbortError") throw error;
          throw new Silence("the film broke off");
        }
        if (part.done) return;
        const fresh = part.value.subarray(Math.min(skip, part.value.length));
        skip -= part.value.length - fresh.length;
        for (const piece of boxes.cut(fresh)) {
          await this.#append(piece, signal);
          this.#played += piece.length;
        }
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  async #append(piece, signal) {
    if (!this.#buffer) this.#begin(piece);
    while (this.#ahead() > AHEAD && !signal.aborted) await this.#spaced();
    for (;;) {
      if (signal.aborted) throw new DOMException("closed", "AbortError");
      try {
        await this.#settled(() => this.#buffer.appendBuffer(piece));
        this.#told(null);
        return;
      } catch (error) {
        if (error.name !== "QuotaExceededError") throw new Unplayable("The picture cannot be shown: " + error.message);
        const end = this.#video.currentTime - BEHIND;
        if (end > 0) await this.#settled(() => this.#buffer.remove(0, end));
        else await this.#spaced();
      }
    }
  }

  #begin(head) {
    const kind = `video/mp4; codecs="${codec(head)}"`;
    if (!MediaSource.isTypeSupported(kind)) throw new Unplayable(`This browser cannot play ${kind}; download the film below.`);
    this.#buffer = this.#source.addSourceBuffer(kind);
    if (this.#film.frames) this.#source.duration = this.#film.frames / this.#film.fps;
  }

  #ahead() {
    const { buffered } = this.#buffer;
    return buffered.length ? buffered.end(buffered.length - 1) - this.#video.currentTime : 0;
  }

  #settled(act) {
    return new Promise((resolve, reject) => {
      const buffer = this.#buffer;
      const done = (event) => {
        buffer.removeEventListener("updateend", done);
        buffer.removeEventListener("error", done);
        if (event.type === "error") reject(new Error("its bytes are damaged"));
        else resolve();
      };
      buffer.addEventListener("updateend", done);
      buffer.addEventListener("error", done);
      try {
        act();
      } catch (error) {
        buffer.removeEventListener("updateend", done);
        buffer.removeEventListener("error", done);
        reject(error);
      }
    });
  }

  // Waits until there is news; of a film that is being made one asks again without any.
  #news(most = this.#film.state === "in_progress" && this.#film.made ? 2000 : 30000) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, most);
      this.#wake = () => (clearTimeout(timer), resolve());
    });
  }

  #spaced() {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, 1000);
      this.#room = () => (clearTimeout(timer), resolve());
    });
  }
}

class Unplayable extends Error {}

const isNews = (film, before) => film.made !== before.made || film.state !== before.state;

const isLast = (film) => ["completed", "failed", "cancelled"].includes(film.state);

// Cuts the stream of an MP4 into its head (up to moov) and fragments (moof and mdat), whatever the pieces it comes in.
class Boxes {
  #held = new Uint8Array(0);

  get waiting() {
    return this.#held.length;
  }

  drop() {
    this.#held = new Uint8Array(0);
  }

  *cut(bytes) {
    const all = new Uint8Array(this.#held.length + bytes.length);
    all.set(this.#held);
    all.set(bytes, this.#held.length);
    const view = new DataView(all.buffer);
    let begin = 0;
    let at = 0;
    while (at + 8 <= all.length) {
      const size = view.getUint32(at);
      if (size < 8) throw new Unplayable("The picture cannot be shown: this is no MP4.");
      if (at + size > all.length) break;
      const name = String.fromCharCode(...all.subarray(at + 4, at + 8));
      at += size;
      if (name === "moov" || name === "mdat") {
        yield all.slice(begin, at);
        begin = at;
      }
    }
    this.#held = all.slice(begin);
  }
}

// avc1.PPCCLL, as the head of the film says (avcC: version, profile, compatibility, level).
function codec(head) {
  for (let at = 0; at + 8 < head.length; at += 1) {
    if (head[at] === 0x61 && head[at + 1] === 0x76 && head[at + 2] === 0x63 && head[at + 3] === 0x43) {
      const numbers = [...head.subarray(at + 5, at + 8)];
      return "avc1." + numbers.map((number) => number.toString(16).padStart(2, "0")).join("");
    }
  }
  throw new Unplayable("The picture cannot be shown: this film is not H.264.");
}
