// A form that is made of what the server says of its settings: their types, defaults and help.

import { html, useState } from "./vendor/htm-preact.module.js";
import { bytes, named, typedBytes } from "./words.js";

// `values` holds what was changed, by the names of settings; what is missing has its default.

const number = (text) => (text.trim() === "" ? undefined : Number(text));

// A size as people say it, which is taken once it is typed to the end; what is none is left for the server to refuse.
function Size({ value, onChange, ...rest }) {
  const [typed, setTyped] = useState(null);
  const take = (text) => {
    setTyped(null);
    onChange(text.trim() === "" ? undefined : (typedBytes(text) ?? text));
  };
  return html`<input type="text" value=${typed ?? (typeof value === "number" ? bytes(value) : value)} onInput=${(event) => setTyped(event.currentTarget.value)}
    onChange=${(event) => take(event.currentTarget.value)} ...${rest} />`;
}

function Input({ setting, value, onChange, ...rest }) {
  const shown = value ?? setting.default ?? "";
  if (setting.unit === "bytes") return html`<${Size} value=${shown} onChange=${onChange} ...${rest} />`;
  switch (setting.type) {
    case "boolean":
      return html`<input ...${rest} type="checkbox" checked=${value ?? setting.default ?? false} onChange=${(event) => onChange(event.currentTarget.checked)} />`;
    case "choice":
      return html`<select ...${rest} value=${shown} onChange=${(event) => onChange(event.currentTarget.value)}>
        ${setting.choices.map((choice) => html`<option key=${choice} value=${choice} selected=${choice === shown}>${choice}</option>`)}
      </select>`;
    case "integer":
    case "number":
      return html`<input ...${rest} type="number" inputmode="decimal" step=${setting.type === "integer" ? 1 : "any"} min=${setting.minimum} max=${setting.maximum}
        placeholder=${setting.unset ?? ""} value=${shown} onInput=${(event) => onChange(number(event.currentTarget.value))} />`;
    default:
      return html`<input ...${rest} type="text" placeholder=${setting.unset ?? ""} value=${shown} onInput=${(event) => onChange(event.currentTarget.value || undefined)} />`;
  }
}

export function Field({ setting, values, onChange, refusal, children }) {
  const id = `setting-${setting.name}`;
  const isRefused = refusal?.about === setting.name || refusal?.about === `sampler.${setting.name}`;
  const take = (value) => onChange(without(values, setting.name, value === setting.default ? undefined : value));
  return html`<div class="field" data-type=${setting.type} data-changed=${setting.name in values}>
    <label for=${id}>${named(setting.name)}</label>
    <div class="entry"><${Input} setting=${setting} id=${id} value=${values[setting.name]} onChange=${take} aria-invalid=${isRefused} aria-describedby=${isRefused ? `${id}-refusal` : undefined} />${children}</div>
    ${isRefused && html`<p id=${`${id}-refusal`} class="refusal">${refusal.message}</p>`}
    ${setting.help && html`<p class="help">${setting.help}</p>`}
  </div>`;
}

// The same values with another one for `name`; undefined leaves it out.
export const without = (values, name, value) => {
  const { [name]: _, ...rest } = values;
  return value === undefined ? rest : { ...rest, [name]: value };
};
