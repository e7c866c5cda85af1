// A form that is made of what the server says of its settings: their types, defaults and help.

import { html } from "./vendor/htm-preact.module.js";
import { named } from "./words.js";

// `values` holds what was changed, by the names of settings; what is missing has its default.

const number = (text) => (text.trim() === "" ? undefined : Number(text));

function Input({ setting, id, value, onChange }) {
  const shown = value ?? setting.default ?? "";
  switch (setting.type) {
    case "boolean":
      return html`<input id=${id} type="checkbox" checked=${value ?? setting.default ?? false} onChange=${(event) => onChange(event.currentTarget.checked)} />`;
    case "choice":
      return html`<select id=${id} value=${shown} onChange=${(event) => onChange(event.currentTarget.value)}>
        ${setting.choices.map((choice) => html`<option key=${choice} value=${choice} selected=${choice === shown}>${choice}</option>`)}
      </select>`;
    case "integer":
    case "number":
      return html`<input id=${id} type="number" inputmode="decimal" step=${setting.type === "integer" ? 1 : "any"} min=${setting.minimum} max=${setting.maximum}
        placeholder=${setting.unset ?? ""} value=${shown} onInput=${(event) => onChange(number(event.currentTarget.value))} />`;
    default:
      return html`<input id=${id} type="text" placeholder=${setting.unset ?? ""} value=${shown} onInput=${(event) => onChange(event.currentTarget.value || undefined)} />`;
  }
}

export function Field({ setting, values, onChange, children }) {
  const id = `setting-${setting.name}`;
  const take = (value) => onChange(without(values, setting.name, value === setting.default ? undefined : value));
  return html`<div class="field" data-type=${setting.type} data-changed=${setting.name in values}>
    <label for=${id}>${named(setting.name)}</label>
    <div class="entry"><${Input} setting=${setting} id=${id} value=${values[setting.name]} onChange=${take} />${children}</div>
    ${setting.help && html`<p class="help">${setting.help}</p>`}
  </div>`;
}

// The same values with another one for `name`; undefined leaves it out.
export const without = (values, name, value) => {
  const { [name]: _, ...rest } = values;
  return value === undefined ? rest : { ...rest, [name]: value };
};
