// What is measured of a film, under it, on the same width of time as its prompts.

import { html, useEffect, useRef } from "./vendor/htm-preact.module.js";

// A row is what is measured of a piece of the film: {frame, steps, seams, colour, drift, contrast, sharpness}.

const whole = (get) => ({
  points: (rows) => rows.map((row) => [row.frame + row.steps.length / 2, get(row)]),
  at: (row) => get(row),
});

export const CURVES = [
  { key: "drift", label: "Colour drift", help: "How far the mean colour has moved from that of the beginning, in grey levels.", said: (value) => value.toFixed(1), ...whole((row) => row.drift) },
  { key: "sharpness", label: "Sharpness", help: "Against the beginning. A film that goes soft sinks.", said: (value) => `${Math.round(value * 100)} %`, ...whole((row) => row.sharpness) },
  {
    key: "motion",
    label: "Motion",
    help: "Change from frame to frame, in grey levels. A freeze lies flat; the ticks are joins between pieces of work.",
    said: (value) => value.toFixed(1),
    points: (rows) => rows.flatMap((row) => row.steps.map((step, index) => [row.frame + index, step])),
    at: (row, frame) => row.steps[frame - row.frame],
    seams: (rows) => rows.flatMap((row) => row.seams ?? []),
  },
];

export const joined = (known, fresh) => (fresh.length ? [...known.filter((row) => row.frame < fresh[0].frame), ...fresh] : known);

export const rowAt = (rows, frame) => rows.findLast((row) => row.frame <= frame && frame < row.frame + row.steps.length);

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Calls `draw` at once, when the element's size changes, and when the page goes dark or light.
function useDrawing(element, draw, inputs) {
  const latest = useRef(draw);
  latest.current = draw;
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const again = () => latest.current(true);
    const sized = new ResizeObserver(() => latest.current(false));
    dark.addEventListener("change", again);
    sized.observe(element.current);
    return () => {
      dark.removeEventListener("change", again);
      sized.disconnect();
    };
  }, []);
  useEffect(() => latest.current(false), inputs);
}

export function Curve({ curve, rows, fps, seconds }) {
  const place = useRef(null);
  const chart = useRef(null);
  const seams = useRef([]);
  seams.current = curve.seams?.(rows) ?? [];
  useEffect(() => () => chart.current?.destroy(), []);
  useDrawing(
    place,
    (isAnew) => {
      const { clientWidth: width, clientHeight: height } = place.current;
      if (!width) return;
      if (isAnew) chart.current?.destroy();
      if (isAnew || !chart.current) chart.current = new uPlot(drawn(seams, fps), [[], []], place.current);
      if (chart.current.width !== width || chart.current.height !== height) chart.current.setSize({ width, height });
      fill(chart.current, curve.points(rows), fps, seconds);
    },
    [rows, fps, seconds],
  );
  return html`<div class="curve" ref=${place} role="img" aria-label=${`${curve.label} over time`}></div>`;
}

function fill(chart, points, fps, seconds) {
  chart.setData([points.map(([frame]) => frame / fps), points.map(([, value]) => value)], false);
  const most = points.reduce((found, [, value]) => Math.max(found, value ?? 0), 0);
  chart.batch(() => {
    chart.setScale("x", { min: 0, max: Math.max(seconds, 1e-3) });
    chart.setScale("y", { min: 0, max: most * 1.25 || 1 });
  });
}

function drawn(seams, fps) {
  const none = { show: false };
  const mark = ({ ctx, bbox, valToPos }) => {
    ctx.save(); // uPlot remembers what it has set
    ctx.fillStyle = token("--tick");
    for (const frame of seams.current) ctx.fillRect(Math.round(valToPos(frame / fps, "x", true)), bbox.top, devicePixelRatio, 5 * devicePixelRatio);
    ctx.restore();
  };
  return {
    width: 300,
    height: 40,
    padding: [0, 0, 0, 0],
    legend: none,
    cursor: none,
    axes: [none, none],
    scales: { x: { time: false, auto: false }, y: { auto: false } },
    series: [{}, { stroke: token("--curve"), width: 1.5, fill: token("--curve-under"), points: none }],
    hooks: { draw: [mark] },
  };
}

// The mean colour of every piece, side by side.
export function Colours({ rows, frames }) {
  const canvas = useRef(null);
  useDrawing(
    canvas,
    () => {
      const { clientWidth: width } = canvas.current;
      canvas.current.width = width * devicePixelRatio;
      const context = canvas.current.getContext("2d");
      const scale = canvas.current.width / frames;
      for (const row of rows) {
        context.fillStyle = `rgb(${row.colour.map(Math.round).join(" ")})`;
        context.fillRect(Math.floor(row.frame * scale), 0, Math.ceil(row.steps.length * scale) + 1, canvas.current.height);
      }
    },
    [rows, frames],
  );
  return html`<canvas class="colours" ref=${canvas} height="1" role="img" aria-label="Mean colour over time"></canvas>`;
}
