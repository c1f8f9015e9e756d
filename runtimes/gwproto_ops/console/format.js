// Figures as people read them. An em dash stands for what is not known.

const NONE = "–";
const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

const known = (value) => value !== null && value !== undefined;

export const count = (value) => (known(value) ? whole.format(value) : NONE);

export const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

export const short = (value) => (!known(value) ? NONE : value < 10000 ? whole.format(value) : compact.format(value));

export function percent(share) {
  if (!known(share)) return NONE;
  const value = share * 100;
  // 99.96 % is not all of it.
  return `${value === 100 || value === 0 ? value : Math.min(value, 99.9).toFixed(1)} %`;
}

export function ms(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 60000) return `${(value / 1000).toFixed(2)} s`;
  return `${Math.floor(value / 60000)} min ${Math.round((value % 60000) / 1000)} s`;
}

export function money(dollars) {
  if (!known(dollars)) return NONE;
  if (dollars === 0) return "$0";
  return dollars < 0.01 ? `$${dollars.toPrecision(2)}` : `$${dollars.toFixed(dollars < 10 ? 3 : 2)}`;
}

/** Seconds left, counted down. */
export function left(seconds) {
  const rest = Math.ceil(seconds);
  if (rest < 60) return `${rest} s`;
  const minutes = Math.floor(rest / 60);
  if (minutes < 60) return `${minutes} min ${String(rest % 60).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** A time of day, with the day where it is not today. `at`: seconds since 1970. */
export function time(at) {
  const date = new Date(at * 1000);
  return (date.toDateString() === new Date().toDateString() ? clock : dayAndClock).format(date);
}

export const fullTime = (at) => new Date(at * 1000).toISOString().replace("T", " ").replace("Z", " UTC");

export const tokens = (prompt, completion) =>
  known(prompt) || known(completion) ? `${count(prompt)} + ${count(completion)}` : NONE;
