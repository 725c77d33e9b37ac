/* The page of a naught server: asks for status.json once a second and shows it.
 *
 *     status.json -> parse -> sampleOf -> History -> charts, readouts
 *                         `-> facts, tables
 *
 * The first half is pure: figures in, numbers and text out. The second half owns the document. Three objects have
 * state: History has five minutes of samples, View what the reader has chosen, Poller when it asked, was answered and
 * asks again.
 *
 * Keys and names come from clients, who may be hostile. They reach the document as text only (`textContent`,
 * attributes), and characters that cannot be seen are spelled out. Nothing here writes markup, and nothing sends
 * anything but a GET.
 */

export const POLL_MS = 1_000; // from one question to the next
export const ANSWER_MS_MAX = 10_000; // an answer that takes longer is given up
export const SLOW_MS = 2_000; // an answer that takes longer is called slow
export const STILL_MS = 5_000; // figures that are older, although the server answers, are called old
export const BACKOFF_MS_MAX = 15_000; // between two questions to a server that does not answer
export const KEPT_MS = 300_000; // what the charts show
export const GAP_MS = 3_000; // between two samples that are further apart there was none
export const STEP_AGE_S_MAX = 5; // a sweeper whose last step is longer ago does not run
export const DEVIATION_MAX = 0.15; // the shipped alert rules warn above this

const LAST_BUCKET = 24; // of a histogram: it has no upper end
const REASONS = ["zero", "expired", "taken", "set", "cleared", "session"]; // of evictions
const ABSENT = "\u2013"; // a figure that there is not
const NB = "\u00a0"; // between a number and its unit, which stay together

// --------------------------------------------------------------------------------------------- from JSON to figures

/** The value of a JSON text. Whole numbers beyond 2^53, which a counter can have, become BigInt where the browser can
 * tell what was written; elsewhere they are rounded, and `whole` says so. */
export function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
      ? BigInt(context.source)
      : value,
  );
}

/** Whether `status` is of another start of the server than `before`: another process, or figures that fell. */
export function isNewStart(before, status) {
  return (
    status.pid !== before.pid ||
    status.uptime_s < before.uptime_s ||
    status.totals.commands < before.totals.commands ||
    status.turns.count < before.turns.count
  );
}

/** What `after` counts more than `before`, bucket by bucket. */
export function added(before, after) {
  return after.map((count, bucket) => Math.max(0, count - before[bucket]));
}

/** Microseconds below which this share of the durations is: the upper end of a bucket, so an upper bound. Infinity in
 * the last bucket, null where there are no durations. */
export function quantile(histogram, share) {
  const wanted = histogram.reduce((sum, count) => sum + count, 0) * share;
  let seen = 0;
  for (const [bucket, count] of histogram.entries()) {
    seen += count;
    if (count && seen >= wanted) return bucket === LAST_BUCKET ? Infinity : 2 ** bucket;
  }
  return null;
}

/** Words and numbers of a map in JSON. A word may be any text, `__proto__` too. */
export function pairs(map) {
  return new Map(Object.entries(map));
}

function total(map) {
  return Object.values(map).reduce((sum, count) => sum + Number(count), 0);
}

/**
 * The figures that charts show, of one moment.
 *
 * `before` is the status whose figures the rates are compared with; null where there is none that can be compared: at
 * first, after a new start, and when the server was not asked or did not answer meanwhile, for a mean over that time
 * would pass for a figure of now. Then what needs a difference is null.
 */
export function sampleOf(at, status, before) {
  const seconds = before === null ? 0 : status.uptime_s - before.uptime_s;
  const rate = (pick) => (seconds > 0 ? Math.max(0, pick(status) - pick(before)) / seconds : null);
  const durations = (word) => {
    if (!(seconds > 0)) return { p50: null, p99: null, longest: null, perSecond: null };
    const fresh = added(before[word].histogram, status[word].histogram);
    return {
      p50: quantile(fresh, 0.5),
      p99: quantile(fresh, 0.99),
      longest: quantile(fresh, 1),
      perSecond: rate((each) => each[word].count),
    };
  };
  const cachesBefore = new Map(before === null ? [] : before.caches.map((cache) => [cache.name, cache]));
  const caches = new Map();
  for (const cache of status.caches) {
    const earlier = cachesBefore.get(cache.name);
    const evictions = new Map();
    for (const reason of REASONS) {
      const known = seconds > 0 && earlier !== undefined;
      const more = known ? (cache.evictions[reason] ?? 0) - (earlier.evictions[reason] ?? 0) : 0;
      evictions.set(reason, known ? Math.max(0, more) / seconds : null);
    }
    caches.set(cache.name, {
      counters: cache.counters,
      exact: cache.counters_exact,
      rawEntries: cache.raw_entries,
      deviation: cache.deviation,
      bound: cache.max_counters,
      evictions,
    });
  }
  const methodsBefore = before === null ? new Map() : pairs(before.totals.by_method);
  const methods = new Map();
  for (const [method, count] of pairs(status.totals.by_method)) {
    methods.set(method, seconds > 0 ? Math.max(0, count - (methodsBefore.get(method) ?? 0)) / seconds : null);
  }
  return {
    at,
    commands: rate((each) => each.totals.commands),
    errors: rate((each) => each.totals.errors),
    received: rate((each) => each.totals.received_bytes),
    sent: rate((each) => each.totals.sent_bytes),
    turns: durations("turns"),
    pauses: durations("gc_pauses"),
    lag: durations("loop_lag"),
    resident: status.memory.resident_bytes,
    tables: status.memory.table_bytes,
    limit: status.memory.limit_bytes,
    live: status.caches.reduce((sum, cache) => sum + cache.counters, 0),
    backlog: status.caches.reduce((sum, cache) => sum + total(cache.backlog), 0),
    behind: status.sweeper.behind,
    sweptPerSecond: rate((each) => each.sweeper.entries),
    stepsPerSecond: rate((each) => each.sweeper.steps),
    sweeping: rate((each) => each.sweeper.seconds),
    methods,
    caches,
  };
}

/** Samples of the last five minutes, the oldest first. */
export class History {
  constructor() {
    this.samples = [];
    this.starts = []; // when a new start of the server was noticed
  }

  add(sample, isNew) {
    const last = this.samples.at(-1);
    if (last !== undefined && sample.at <= last.at) {
      this.samples = []; // the clock was set back, and the times before mean nothing any more
      this.starts = [];
    }
    this.samples.push(sample);
    if (isNew) this.starts.push(sample.at);
    const oldest = sample.at - KEPT_MS;
    while (this.samples[0].at < oldest) this.samples.shift();
    while (this.starts.length && this.starts[0] < oldest) this.starts.shift();
  }

  /** The times without figures up to `now`, as [from, to]. */
  gaps(now) {
    const times = this.samples.map((sample) => sample.at);
    if (!times.length) return [];
    times.push(now);
    return times.slice(1).flatMap((to, place) => (to - times[place] > GAP_MS ? [[times[place], to]] : []));
  }

  /** The sample that was the last at this time, when it is `now`; null in a gap. At last, the last there is. */
  sampleAt(time, now) {
    const found = this.samples.findLast((sample) => sample.at <= time);
    return found !== undefined && (time === now || time - found.at <= GAP_MS) ? found : null;
  }
}

// ------------------------------------------------------------------------------------------------- figures as text

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const THREE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A whole number. */
export function whole(value) {
  if (value === null || value === undefined) return ABSENT;
  const rounded = typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER;
  return (rounded ? "about " : "") + WHOLE.format(value);
}

/** So many a second. */
export function perSecond(value) {
  if (value === null || value === undefined) return ABSENT;
  return value > 0 && value < 10 ? TENTHS.format(value) : WHOLE.format(value);
}

/** A size. */
export function bytes(value) {
  if (value === null || value === undefined) return ABSENT;
  let unit = 0;
  let size = Number(value);
  while (size >= 1000 && unit < 4) {
    size /= 1024;
    unit += 1;
  }
  return `${unit ? THREE.format(size) : WHOLE.format(size)}${NB}${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** A duration in microseconds. */
export function microseconds(value) {
  if (value === null || value === undefined) return ABSENT;
  if (value < 1_000) return `${THREE.format(value)}${NB}\u00b5s`;
  return value < 1_000_000 ? `${THREE.format(value / 1_000)}${NB}ms` : `${THREE.format(value / 1_000_000)}${NB}s`;
}

/** An upper bound in microseconds, as `quantile` has it. */
export function below(value) {
  if (value === null || value === undefined) return ABSENT;
  return value === Infinity ? `>${NB}${microseconds(2 ** (LAST_BUCKET - 1))}` : `<${NB}${microseconds(value)}`;
}

/** A share. Beyond ten times, how many times. */
export function percent(value) {
  if (value === null || value === undefined) return ABSENT;
  if (value >= 10) return `${WHOLE.format(value)}\u00d7`;
  return `${value && value < 0.1 ? TENTHS.format(value * 100) : WHOLE.format(value * 100)}${NB}%`;
}

/** A time that has passed, in seconds: the two largest units of it, and tenths below ten seconds. */
export function passed(value) {
  if (value === null || value === undefined) return ABSENT;
  return value < 10 ? `${TENTHS.format(Math.floor(value * 10) / 10)}${NB}s` : wholeSeconds(value);
}

/** The same without tenths. */
export function wholeSeconds(value) {
  const seconds = Math.max(0, Math.floor(value));
  if (seconds < 60) return `${seconds}${NB}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}${NB}min${NB}${seconds % 60}${NB}s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)}${NB}h${NB}${Math.floor((seconds % 3_600) / 60)}${NB}min`;
  return `${WHOLE.format(Math.floor(seconds / 86_400))}${NB}d${NB}${Math.floor((seconds % 86_400) / 3_600)}${NB}h`;
}

/** The time of day. */
export function clock(at) {
  const date = new Date(at);
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/** A text of a client, with the characters spelled out that cannot be seen, or that change how others are seen. */
export function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

/** "1 hold", "2 holds" */
function number(count, one, many = `${one}s`) {
  return `${whole(count)} ${Number(count) === 1 ? one : many}`;
}

// ------------------------------------------------------------------------------------------------- shapes of charts

/** A scale from 0 to a round number that is at least `least`. */
export function linear(values, least, step = 10) {
  const most = Math.max(least, ...values);
  const power = step ** Math.floor(Math.log(most) / Math.log(step) + 1e-9);
  const rounds = step === 10 ? [1, 2, 4, 6, 8, 10] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
  const high = power * rounds.find((each) => power * each >= most * (1 - 1e-9));
  return { ticks: [high, high / 2, 0], height: (value) => 1 - Math.min(1, value / high) };
}

/** A logarithmic scale for microseconds, from a power of ten to another that is an even number of powers above. */
export function logarithmic(values) {
  const real = values.filter((value) => value > 0).map((value) => Math.min(value, 2 ** LAST_BUCKET));
  let low = Math.floor(Math.log10(Math.min(10, ...real)) + 1e-9);
  let high = Math.ceil(Math.log10(Math.max(1_000, ...real)) - 1e-9);
  if ((high - low) % 2) {
    if (low > 0) low -= 1;
    else high += 1;
  }
  const span = high - low;
  return {
    ticks: [10 ** high, 10 ** (low + span / 2), 10 ** low],
    height: (value) => 1 - (Math.log10(Math.max(10 ** low, Math.min(value, 2 ** LAST_BUCKET))) - low) / span,
  };
}

const WIDE = 300; // the viewBox of a chart: one unit is a second
const HIGH = 100;

function across(time, now) {
  return Math.round((1 - (now - time) / KEPT_MS) * WIDE * 100) / 100;
}

/** The path of a line. It is broken where there is no figure. */
export function line(samples, pick, height, now, high = HIGH) {
  let path = "";
  let last = null; // when the line was last drawn to
  for (const sample of samples) {
    const value = pick(sample);
    const x = across(sample.at, now);
    if (value === null || value === undefined || x < 0) {
      last = null;
      continue;
    }
    const y = Math.round(height(value) * high * 100) / 100;
    path += last !== null && sample.at - last <= GAP_MS ? `L${x} ${y}` : `M${x} ${y}h0`;
    last = sample.at;
  }
  return path;
}

/** The path of the bars over these times, as high as the chart. */
export function bars(spans, now) {
  return spans
    .map(([from, to]) => [Math.max(0, across(from, now)), across(to, now)])
    .filter(([from, to]) => to > from)
    .map(([from, to]) => `M${from} 0H${to}V${HIGH}H${from}Z`)
    .join("");
}

/** The times at which the sweeper was behind, as [from, to]. */
export function behindSpans(samples) {
  return samples
    .map((sample, place) => [sample.at, samples[place + 1]?.at ?? sample.at + POLL_MS, sample.behind])
    .filter(([from, to, behind]) => behind && to - from <= GAP_MS)
    .map(([from, to]) => [from, to]);
}

/** What a chart shows, in words, for those who do not see it. */
export function inWords(title, names, series, gaps) {
  const parts = series.map(({ values, write }, place) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    if (!known.length) return `${names[place]}: no figures`;
    const last = values.at(-1);
    const range = `from ${write(Math.min(...known))} to ${write(Math.max(...known))}`;
    return `${names[place]}: now ${last === null ? "none" : write(last)}, ${range}`;
  });
  const missing = gaps ? `; ${number(gaps, "gap")} without figures` : "";
  return `${title}, last 5 minutes. ${parts.join("; ")}${missing}.`;
}

// ------------------------------------------------------------------------------------------------- the condition

/**
 * How the server is, as far as this page can tell: `kind` for the colour, `text` and `more` to be read, and `said`, which
 * is announced when it changes and so has no figure that counts up.
 *
 * `poll` has, in milliseconds of one clock: `opened`, `answered` (the last good answer; null before), `asked` (a
 * question that is under way), `failed` (the first failure since the last good answer), `why`, `next` (when it asks
 * again), `took` (the last answer), `made` (when figures last were new), `paused`.
 */
export function conditionOf(poll, state, now) {
  const ago = (time) => wholeSeconds((now - time) / 1000);
  const old = "The figures are of then.";
  if (poll.paused !== null) {
    const said = `Paused at ${clock(poll.paused)}`;
    return { kind: "paused", text: `${said}.`, more: old, said };
  }
  if (poll.failed !== null) {
    const from = poll.answered ?? poll.opened;
    const said = `No answer since ${clock(from)}`;
    const left = wholeSeconds((poll.next - now + 999) / 1000);
    const next = poll.asked !== null ? "Asking now." : `Next attempt in ${left}.`;
    const more = [`${poll.why}.`, ...(poll.answered === null ? [] : [old]), next].join(" ");
    return { kind: "gone", text: `${said}, for ${ago(from)}.`, more, said: `${said}. ${poll.why}` };
  }
  const slow = (text, more, said = "The server is slow to answer") => ({ kind: "slow", text, more, said });
  if (poll.asked !== null && now - poll.asked > SLOW_MS) {
    return slow("Slow.", `Asked ${ago(poll.asked)} ago, and no answer yet.`);
  }
  if (poll.answered === null) return { kind: "wait", text: "Waiting for the first figures.", more: "", said: "" };
  if (poll.took > SLOW_MS) return slow("Slow.", `The last answer took ${passed(poll.took / 1000)}.`);
  if (poll.answered - poll.made > STILL_MS) {
    const said = `The figures stand still since ${clock(poll.made)}`;
    return slow(`${said}.`, "The server answers, but always with the same.", said);
  }
  const said = `The server is ${visible(state)}`;
  if (state === "draining") return slow("Draining.", "The server finishes what it has read, and stops.", said);
  if (state === "serving") return { kind: "good", text: "Serving.", more: "", said };
  return slow(`${visible(state[0].toUpperCase() + state.slice(1))}.`, "", said);
}

/** Milliseconds until the next question to a server that did not answer `failures` times. `random` is from 0 to 1. */
export function backoff(failures, random) {
  return Math.min(BACKOFF_MS_MAX, POLL_MS * 2 ** (failures - 1)) * (0.5 + random / 2);
}

// ------------------------------------------------------------------------------------------------- the document

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

/** Sets a text, and touches nothing where it stands already: a selection there stays. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, attribute, value) {
  if (node.getAttribute(attribute) !== value) node.setAttribute(attribute, value);
}

/** Makes `parent` have as many children as there are items, and lets `write` write each item. */
function fill(parent, items, make, write) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  while (parent.children.length < items.length) parent.append(make());
  items.forEach((item, place) => write(parent.children[place], item));
}

/** A list of names and values. */
function facts(list, items) {
  fill(
    list,
    items.filter((item) => item !== null),
    () => element("div", {}, element("dt"), element("dd")),
    (row, [name, value, figure]) => {
      say(row.firstChild, name);
      say(row.lastChild, value);
      if (figure) mark(row.lastChild, "data-figure", figure);
      else row.lastChild.removeAttribute("data-figure");
    },
  );
}

/** The rows of a table. A column says how its cells look, and writes them; the first is the head of its row. */
function rows(table, columns, items) {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  fill(
    table.tBodies[0],
    items,
    () => {
      const row = element("tr", { role: "row" });
      columns.forEach((column, place) => {
        const kind = place ? ["td", { role: "cell" }] : ["th", { role: "rowheader", scope: "row" }];
        const cell = element(kind[0], { ...kind[1], "data-label": names[place] });
        if (column.look) cell.className = column.look;
        row.append(cell);
      });
      return row;
    },
    (row, item) => columns.forEach((column, place) => column.write(row.cells[place], item)),
  );
  table.hidden = !items.length;
}

const plain = (pick, look = "") => ({ look, write: (cell, item) => say(cell, pick(item)) });
const figure = (pick) => plain(pick, "number");

/** A text of a client: isolated, so that its direction does not reach others. */
const foreign = (pick) => ({
  look: "key",
  write: (cell, item) => {
    if (!cell.firstChild) cell.append(element("bdi"));
    const text = pick(item);
    say(cell.firstChild, text === null || text === "" ? ABSENT : visible(text));
  },
});

/** Several keys in one cell, each with its amount where it has one. */
const several = (pick) => ({
  look: "several",
  write: (cell, item) => {
    if (!cell.firstChild) cell.append(element("ul", { class: "items" }));
    fill(
      cell.firstChild,
      pick(item),
      () => element("li", {}, element("bdi", { class: "key" }), element("span", { class: "amount" })),
      (entry, [key, amount]) => {
        say(entry.firstChild, visible(key));
        say(entry.lastChild, amount === undefined ? "" : `\u00d7${NB}${whole(amount)}`);
      },
    );
  },
});

// ------------------------------------------------------------------------------------------------- charts

/**
 * A chart: `series` have a name, a figure of a sample, and how it is written; `scale` makes a scale of all values on
 * it, and `tick` writes those at its side. `right` is a series with a scale of its own. `limit` is a level, drawn where
 * the scale reaches it; `note` a sentence below; `shade` the times that are marked.
 */
const longest = (durations) =>
  durations.count ? `The longest since the start: ${microseconds(durations.max_us)}.` : "";

const SERVER_CHARTS = [
  {
    id: "commands",
    title: "Commands",
    series: [
      { id: "commands", name: "per second", of: (sample) => sample.commands, write: perSecond },
      { id: "errors", name: "errors per second", of: (sample) => sample.errors, write: perSecond },
    ],
    scale: (values) => linear(values, 10),
    tick: (value) => SHORT.format(value),
    note: (status) => `${whole(status.totals.commands)} since the start, ${number(status.totals.errors, "error")}.`,
  },
  {
    id: "turns",
    title: "Turns of connections",
    series: [
      { id: "turns-p50", name: "p50", of: (sample) => sample.turns.p50, write: below },
      { id: "turns-p99", name: "p99", of: (sample) => sample.turns.p99, write: below },
    ],
    scale: logarithmic,
    tick: microseconds,
    note: (status) => `A turn executes what has arrived. ${longest(status.turns)}`,
  },
  {
    id: "memory",
    title: "Memory against live counters",
    series: [
      { id: "resident", name: "resident", of: (sample) => sample.resident, write: bytes },
      { id: "tables", name: "tables", of: (sample) => sample.tables, write: bytes },
    ],
    right: { id: "live", name: "live counters", of: (sample) => sample.live, write: whole },
    scale: (values) => linear(values, 1 << 20, 1024),
    tick: bytes,
    limit: (sample) => sample.limit,
    note: (status, sample) => {
      const limit = status.memory.limit_bytes;
      const known = limit === null ? "No limit is set." : `The limit is ${bytes(limit)}.`;
      return sample.live ? `${known} ${whole(sample.tables / sample.live)} bytes of tables a counter.` : known;
    },
  },
  {
    id: "sweeper",
    title: "Sweeper",
    series: [
      { id: "backlog", name: "backlog, entries", of: (sample) => sample.backlog, write: whole },
      { id: "swept", name: "swept per second", of: (sample) => sample.sweptPerSecond, write: perSecond },
    ],
    scale: (values) => linear(values, 10),
    tick: (value) => SHORT.format(value),
    shade: behindSpans,
    note: (status, sample) => {
      const { behind, failures, last_step_age_s: age } = status.sweeper;
      const time = sample.sweeping === null ? "" : `, ${percent(sample.sweeping)} of the time`;
      const steps = `${perSecond(sample.stepsPerSecond)} steps per second${time}`;
      const last = `the last one ${passed(age)} ago.`;
      const pace = behind ? "Behind" : "Keeps up";
      const text = age > STEP_AGE_S_MAX ? `It stands still: no step, ${last}` : `${pace}: ${steps}; ${last}`;
      return failures ? `${text} ${number(failures, "step")} failed.` : text;
    },
  },
  {
    id: "pauses",
    title: "Pauses of the garbage collector",
    series: [
      { id: "pause-longest", name: "longest", of: (sample) => sample.pauses.longest, write: below },
      { id: "pause-p50", name: "p50", of: (sample) => sample.pauses.p50, write: below },
    ],
    scale: logarithmic,
    tick: microseconds,
    note: (status) => `${number(status.gc_pauses.count, "pause")} since the start. ${longest(status.gc_pauses)}`,
  },
  {
    id: "lag",
    title: "Lag of the event loop",
    series: [
      { id: "lag-p50", name: "p50", of: (sample) => sample.lag.p50, write: below },
      { id: "lag-p99", name: "p99", of: (sample) => sample.lag.p99, write: below },
    ],
    scale: logarithmic,
    tick: microseconds,
    note: (status) => longest(status.loop_lag),
  },
];

const ofCache = (pick) => (sample, name) => {
  const cache = sample.caches.get(name);
  return cache === undefined ? null : pick(cache);
};

const CACHE_CHARTS = [
  {
    id: "counters",
    title: "Counters",
    series: [
      {
        id: "counters",
        name: "live",
        of: ofCache((cache) => cache.counters),
        write: whole,
        prefix: (sample, name) => (sample.caches.get(name)?.exact === false ? `\u2264${NB}` : ""),
      },
      { id: "raw-entries", name: "raw entries", of: ofCache((cache) => cache.rawEntries), write: whole },
    ],
    scale: (values) => linear(values, 10),
    tick: (value) => SHORT.format(value),
    limit: ofCache((cache) => cache.bound),
    note: (status, sample, cache) =>
      cache.max_counters === null
        ? "No bound is set."
        : `The bound is ${whole(cache.max_counters)}; ${percent(cache.counters / cache.max_counters)} of it is used.`,
  },
  {
    id: "deviation",
    title: "Deviation",
    series: [
      {
        id: "deviation",
        name: "of raw entries from live counters",
        of: ofCache((cache) => cache.deviation),
        write: percent,
      },
    ],
    scale: (values) => linear(values, 0.2),
    tick: percent,
    limit: () => DEVIATION_MAX,
    note: (status, sample, cache) => {
      const stale = Math.max(0, cache.raw_entries - cache.counters);
      const waiting = stale === 1 ? "entry waits" : "entries wait";
      return `${whole(stale)} ${waiting} for the sweeper. The dotted line is ${percent(DEVIATION_MAX)}.`;
    },
  },
];

/** The values beside a chart: above, in the middle, below. */
function tickLabels(side) {
  return element("div", { class: `ticks ${side}`, "aria-hidden": "true" }, ...[1, 2, 3].map(() => element("span")));
}

class Chart {
  constructor(spec) {
    this.spec = spec;
    this.series = spec.right ? [...spec.series, spec.right] : spec.series;
    this.readouts = this.series.map((series) => element("dd", { "data-figure": series.id }));
    this.gaps = drawn("path", { class: "gap" });
    this.shade = drawn("path", { class: "shade" });
    this.limit = drawn("path", { class: "limit" });
    this.lines = this.series.map((_, place) => drawn("path", { class: `line s${place + 1}` }));
    this.starts = drawn("path", { class: "start" });
    this.cursor = drawn("path", { class: "cursor" });
    this.svg = drawn(
      "svg",
      { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "data-chart": spec.id },
      this.gaps,
      this.shade,
      drawn("path", { class: "grid", d: `M0 0H${WIDE}M0 ${HIGH / 2}H${WIDE}` }),
      drawn("path", { class: "grid base", d: `M0 ${HIGH}H${WIDE}` }),
      this.limit,
      ...this.lines.toReversed(),
      this.starts,
      this.cursor,
    );
    this.ticks = tickLabels("left");
    this.rightTicks = tickLabels("right");
    this.note = element("p", { class: "note" });
    const plot = element("div", { class: spec.right ? "plot both" : "plot" }, this.ticks, this.svg);
    if (spec.right) plot.append(this.rightTicks);
    const times = ["5 min before", "now"].map((text) => element("span", {}, text));
    this.node = element(
      "figure",
      { class: "chart", "aria-labelledby": `chart-${spec.id}` },
      element("figcaption", {}, element("h3", { id: `chart-${spec.id}` }, spec.title)),
      element("dl", { class: "readouts" }, ...this.series.map((series, place) => this.readout(series, place))),
      plot,
      element("div", { class: "times", "aria-hidden": "true" }, ...times),
      this.note,
    );
  }

  readout(series, place) {
    const swatch = element("span", { class: `swatch s${place + 1}`, "aria-hidden": "true" });
    return element("div", {}, element("dt", {}, swatch, series.name), this.readouts[place]);
  }

  /**
   * Draws the samples of `past` as they are at `now`. The readouts are those of `time`. `cache` is that of the status
   * which is shown; a chart of the whole server has none.
   */
  draw(past, now, time, status, cache) {
    const { spec, series } = this;
    const name = cache?.name;
    const { samples } = past;
    const values = series.map((each) => samples.map((sample) => each.of(sample, name)));
    const real = (list) => list.filter((value) => value !== null && value !== undefined);
    const scale = spec.scale(real(values.slice(0, spec.series.length).flat()));
    const right = spec.right ? linear(real(values.at(-1)), 10) : scale;
    const gaps = past.gaps(now);
    mark(this.gaps, "d", bars(gaps, now));
    if (spec.shade) mark(this.shade, "d", bars(spec.shade(samples), now));
    if (spec.limit) this.drawLimit(spec.limit(samples.at(-1), name), scale);
    [...this.ticks.children].forEach((tick, place) => say(tick, spec.tick(scale.ticks[place])));
    [...this.rightTicks.children].forEach((tick, place) => say(tick, SHORT.format(right.ticks[place])));
    const sample = past.sampleAt(time, now);
    series.forEach((each, place) => {
      const { height } = each === spec.right ? right : scale;
      mark(this.lines[place], "d", line(samples, (known) => each.of(known, name), height, now));
      const value = sample === null ? null : each.of(sample, name);
      const isKnown = value !== null && value !== undefined;
      say(this.readouts[place], isKnown ? (each.prefix?.(sample, name) ?? "") + each.write(value) : ABSENT);
    });
    drawTimes(this, past, now, time);
    const names = series.map((each) => each.name);
    const told = series.map((each, place) => ({ values: values[place], write: each.write }));
    mark(this.svg, "aria-label", inWords(spec.title, names, told, gaps.length));
    say(this.note, spec.note(status, samples.at(-1), cache));
  }

  drawLimit(level, scale) {
    const isShown = level !== null && level !== undefined && level <= scale.ticks[0];
    mark(this.limit, "d", isShown ? `M0 ${scale.height(level) * HIGH}H${WIDE}` : "");
  }
}

/** New starts of the server, and the time that is looked at. */
function drawTimes(chart, past, now, time) {
  const upright = (at) => `M${across(at, now)} 0V${HIGH}`;
  const shown = past.starts.filter((at) => across(at, now) >= 0);
  mark(chart.starts, "d", shown.map(upright).join(""));
  mark(chart.cursor, "d", time < now ? upright(Math.max(time, now - KEPT_MS)) : "");
}

/** Evictions by reason: a row for each, with one scale for all, so that they can be compared. */
class Evictions {
  constructor() {
    this.rows = REASONS.map((reason) => this.makeRow(reason));
    this.note = element("p", { class: "note" });
    const titles = ["Reason", "Last 5 minutes", "Now"].map((title) => element("th", { scope: "col" }, title));
    this.node = element(
      "figure",
      { class: "chart", "aria-labelledby": "chart-evictions" },
      element("figcaption", {}, element("h3", { id: "chart-evictions" }, "Evictions per second")),
      element(
        "table",
        { class: "sparks" },
        element("caption", { class: "unseen" }, "Evictions per second, by reason"),
        element("thead", { class: "unseen" }, element("tr", {}, ...titles)),
        element("tbody", {}, ...this.rows.map(({ row }) => row)),
      ),
      this.note,
    );
  }

  makeRow(reason) {
    const gaps = drawn("path", { class: "gap" });
    const base = drawn("path", { class: "grid base", d: `M0 ${HIGH}H${WIDE}` });
    const path = drawn("path", { class: "line s1" });
    const starts = drawn("path", { class: "start" });
    const cursor = drawn("path", { class: "cursor" });
    const words = { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img" };
    const svg = drawn("svg", { ...words, "data-chart": `evictions-${reason}` }, gaps, base, path, starts, cursor);
    const rate = element("td", { class: "number", "data-figure": `evictions-${reason}` });
    const spark = element("td", { class: "spark" }, svg);
    const row = element("tr", {}, element("th", { scope: "row" }, reason), spark, rate);
    return { reason, gaps, path, starts, cursor, svg, rate, row };
  }

  draw(past, now, time, status, cache) {
    const pick = (reason) => (sample) => sample.caches.get(cache.name)?.evictions.get(reason) ?? null;
    const values = this.rows.map(({ reason }) => past.samples.map(pick(reason)));
    const scale = linear(values.flat().filter((value) => value !== null), 1);
    const gaps = past.gaps(now);
    const sample = past.sampleAt(time, now);
    this.rows.forEach((row, place) => {
      const value = sample === null ? null : pick(row.reason)(sample);
      const told = [{ values: values[place], write: perSecond }];
      mark(row.gaps, "d", bars(gaps, now));
      mark(row.path, "d", line(past.samples, pick(row.reason), scale.height, now));
      mark(row.svg, "aria-label", inWords(`Evictions, ${row.reason}`, ["per second"], told, gaps.length));
      drawTimes(row, past, now, time);
      say(row.rate, perSecond(value));
      row.row.classList.toggle("none", !value);
    });
    const most = perSecond(scale.ticks[0]);
    say(this.note, `${whole(total(cache.evictions))} since the start. All have one scale, from 0 to ${most}.`);
  }
}

// ------------------------------------------------------------------------------------------------- the view

const LARGEST_COLUMNS = [
  figure((counter) => whole(counter.rank)),
  foreign((counter) => counter.key),
  figure((counter) => whole(counter.value)),
];

const METHOD_COLUMNS = [
  foreign((known) => known.method),
  figure((known) => perSecond(known.rate)),
  figure((known) => whole(known.count)),
];

const SESSION_COLUMNS = [
  figure((session) => whole(session.number)),
  foreign((session) => session.name),
  foreign((session) => session.address),
  {
    look: "link",
    write: (cell, session) => {
      say(cell, session.connected ? "connected" : "lost");
      cell.classList.toggle("lost", !session.connected);
    },
  },
  figure((session) => passed(session.age_s)),
  figure((session) => whole(session.commands)),
  figure((session) => whole(session.holds)),
  several((session) => session.held),
];

const WAIT_COLUMNS = [
  figure((wait) => whole(wait.number)),
  foreign((wait) => wait.name),
  plain((wait) => (wait.for === "room" ? "room" : wait.for === "zero" ? "zero" : visible(wait.for))),
  several((wait) => wait.keys.map((key) => [key])),
  figure((wait) => passed(wait.since_s)),
];

/** A value of a setting, or a figure that a rule compares: numbers with three digits. */
const valueOf = (value) => (typeof value === "number" ? THREE.format(value) : visible(String(value)));

const DECISION_COLUMNS = [
  figure((decision) => passed(decision.age_ms / 1000)),
  plain((decision) => (decision.dry_run ? `${visible(decision.what)} (dry run)` : visible(decision.what))),
  plain((decision) => visible(decision.setting)),
  plain((decision) => `${valueOf(decision.before)} \u2192 ${valueOf(decision.after)}`),
  plain((decision) => visible(decision.rule)),
  plain((decision) => `${visible(decision.metric)} ${valueOf(decision.figure)}, threshold ${valueOf(decision.threshold)}`),
  plain((decision) => (decision.cache === null ? ABSENT : visible(decision.cache))),
];

/** Shows a status and the history. */
class View {
  constructor() {
    this.chosen = new URLSearchParams(location.hash.slice(1)).get("cache"); // the cache that was asked for
    this.lookedAt = 0; // how long before now the readouts are of, in milliseconds
    this.charts = SERVER_CHARTS.map((spec) => new Chart(spec));
    this.cacheCharts = [...CACHE_CHARTS.map((spec) => new Chart(spec)), new Evictions()];
    byId("server-charts").append(...this.charts.map((chart) => chart.node));
    byId("cache-charts").append(...this.cacheCharts.map((chart) => chart.node));
  }

  choose(name) {
    this.chosen = name;
    history.replaceState(null, "", `#${new URLSearchParams({ cache: name })}`);
  }

  /** The cache that is shown: the one that was chosen, else the first. */
  cacheOf(status) {
    return status.caches.find((cache) => cache.name === this.chosen) ?? status.caches[0];
  }

  /** Everything that only changes with a new status. */
  show(status, sample) {
    facts(byId("identity"), [
      ["Version", visible(status.version), "version"],
      ["Process", String(status.pid), "pid"],
      ["Up", passed(status.uptime_s), "uptime"],
      ["Runs", `${status.compiled ? "compiled" : "interpreted"}, on ${visible(status.loop)}`, "runs"],
    ]);
    const totals = status.totals;
    facts(byId("server-facts"), [
      ["Connections", whole(totals.connections), "connections"],
      ["Accepted since the start", whole(totals.connections_accepted), "accepted"],
      ["Received", `${bytes(sample.received)}${sample.received === null ? "" : "/s"}`, "received"],
      ["Sent", `${bytes(sample.sent)}${sample.sent === null ? "" : "/s"}`, "sent"],
      ["Log lines dropped", whole(totals.log_lines_dropped), "log-lines-dropped"],
    ]);
    this.showCache(status);
    this.showMethods(status, sample);
    this.showTuner(status);
    this.showSessions(status.sessions);
  }

  showCache(status) {
    const cache = this.cacheOf(status);
    const choice = byId("cache");
    fill(
      choice,
      status.caches,
      () => element("option"),
      (option, known) => {
        say(option, visible(known.name));
        mark(option, "value", known.name);
      },
    );
    byId("cache-choice").hidden = status.caches.length < 2 && !status.caches_left_out;
    const others = `and ${whole(status.caches_left_out)} more, which are left out here`;
    say(byId("caches-left-out"), status.caches_left_out ? others : "");
    if (cache === undefined) return;
    if (choice.value !== cache.name) choice.value = cache.name;
    say(byId("cache-name"), visible(cache.name));
    facts(byId("cache-facts"), [
      ["Eviction", visible(cache.eviction), "eviction"],
      ["With a time to live", whole(cache.deadlines), "deadlines"],
      ["Tables", bytes(cache.table_bytes), "cache-tables"],
      ["Load of the tables", percent(cache.load), "load"],
      ["Backlog: expired", whole(cache.backlog.expired), "backlog-expired"],
      ["Backlog: zeros", whole(cache.backlog.zeros), "backlog-zeros"],
      ["Backlog: cleared", whole(cache.backlog.cleared), "backlog-cleared"],
    ]);
    this.showLargest(cache.top);
  }

  showLargest(top) {
    const counters = top?.counters ?? [];
    const ranked = counters.map(([key, value], place) => ({ rank: place + 1, key, value }));
    rows(byId("largest"), LARGEST_COLUMNS, ranked);
    let note = "The server has not looked for them yet.";
    if (top !== null && !counters.length) note = "There are no counters.";
    else if (top !== null) note = `The list is ${passed(top.age_s)} older than the other figures.`;
    say(byId("largest-note"), note);
  }

  showMethods(status, sample) {
    const counts = [...pairs(status.totals.by_method)];
    const methods = counts.map(([method, count]) => ({ method, count, rate: sample.methods.get(method) }));
    methods.sort((one, other) => other.count - one.count || (one.method < other.method ? -1 : 1));
    rows(byId("methods"), METHOD_COLUMNS, methods);
    say(byId("methods-note"), methods.length ? "" : "There were no commands yet.");
  }

  showTuner({ tuner, sweeper }) {
    const changed = Object.entries(tuner.changes);
    const shown = changed.map(([setting, { value, before }]) => `${visible(setting)} ${valueOf(before)} \u2192 ${valueOf(value)}`);
    facts(byId("tuner-facts"), [
      ["Mode", visible(tuner.mode), "tuner-mode"],
      ["Rules", whole(tuner.rules.length), "tuner-rules"],
      ["Changed now", shown.join(", ") || "nothing", "tuner-changes"],
      ["The sweeper may take", `${percent(sweeper.budget)} of the time`, "sweeper-budget"],
    ]);
    rows(byId("decisions"), DECISION_COLUMNS, [...tuner.decisions].reverse());
    const off = tuner.mode === "off" ? "The tuner is off." : "It has decided nothing yet.";
    say(byId("tuner-note"), tuner.decisions.length ? "" : off);
  }

  showSessions(sessions) {
    facts(byId("session-facts"), [
      ["Open", whole(sessions.open), "open"],
      ["Connected", whole(sessions.connected), "connected"],
      ["Opened since the start", whole(sessions.opened), "opened"],
      ["Holds", whole(sessions.holds), "holds"],
      ["Waiting requests", whole(sessions.parked), "parked"],
      ["Keys waited for", whole(sessions.parked_keys), "parked-keys"],
    ]);
    const { listed } = sessions;
    rows(byId("sessions"), SESSION_COLUMNS, listed);
    const notes = [];
    if (!sessions.open && !listed.length) notes.push("There are no sessions.");
    else if (!listed.length) notes.push("The server has not listed them yet.");
    else if (listed.length < sessions.open) {
      const some = `${number(listed.length, "session")} of ${whole(sessions.open)} listed`;
      notes.push(`${some}: those with the most holds, then those that wait.`);
    }
    if (listed.some((session) => !session.connected)) {
      notes.push("A session that has lost its connection keeps its holds until its lease runs out.");
    }
    say(byId("sessions-note"), notes.join(" "));
    this.showWaits(sessions);
  }

  showWaits(sessions) {
    const ofSession = ({ number, name, waits }) => waits.map((wait) => ({ ...wait, number, name }));
    const waits = sessions.listed.flatMap(ofSession);
    waits.sort((one, other) => other.since_s - one.since_s);
    rows(byId("waits"), WAIT_COLUMNS, waits);
    const more = sessions.parked - waits.length;
    let note = waits.length ? "" : "No request waits.";
    if (more > 0) note = `${number(more, "request")} that ${more === 1 ? "waits is" : "wait are"} not listed.`;
    say(byId("waits-note"), note);
  }

  /** The charts, which move with the time. */
  draw(past, status, now) {
    const time = now - this.lookedAt;
    const cache = this.cacheOf(status);
    for (const chart of this.charts) chart.draw(past, now, time, status);
    if (cache !== undefined) for (const chart of this.cacheCharts) chart.draw(past, now, time, status, cache);
    const back = Math.round(this.lookedAt / 1000);
    const before = `${wholeSeconds(back)} before`;
    say(byId("look-text"), back ? `${clock(time)}, ${before}` : "now");
    mark(byId("look"), "aria-valuetext", back ? before : "now");
    document.body.classList.toggle("looking-back", back > 0);
  }
}

// ------------------------------------------------------------------------------------------------- asking

const TITLES = { gone: "No answer \u2013 naught", slow: "Slow \u2013 naught", paused: "Paused \u2013 naught" };

/** Asks for status.json, again and again, while the page can be seen. */
class Poller {
  constructor(view) {
    this.view = view;
    this.past = new History();
    this.status = null; // the last that was good
    this.sample = null; // of the last status
    this.version = null; // of the first status
    this.interrupted = false; // there were no questions, or no answers: a mean over this would pass for a rate of now
    this.failures = 0; // since the last good answer
    this.said = "The server is serving"; // about its condition, the last time; what is usual is not said at first
    this.startedAnew = false; // which is still to be said
    this.timer = 0; // of the next question
    this.question = null; // the one that is under way, as an AbortController
    // What `conditionOf` takes.
    this.poll = {
      opened: Date.now(),
      answered: null,
      asked: null,
      failed: null,
      why: "",
      next: 0,
      took: 0,
      made: 0,
      paused: null,
    };
  }

  /** Ask now, unless it asks already. */
  async ask() {
    clearTimeout(this.timer);
    if (this.question !== null || this.poll.paused !== null || document.hidden) return;
    const question = new AbortController();
    const tooLate = setTimeout(() => question.abort("late"), ANSWER_MS_MAX);
    const asked = Date.now();
    this.question = question;
    this.poll.asked = asked;
    let why = "";
    let text = "";
    try {
      const answer = await fetch("status.json", { cache: "no-store", signal: question.signal });
      if (answer.ok) text = await answer.text();
      else why = `It answers with status ${answer.status}`;
    } catch {
      why = question.signal.reason === "late" ? `Nothing came within ${ANSWER_MS_MAX / 1000}${NB}s` : "The connection failed";
    }
    clearTimeout(tooLate);
    if (this.question !== question) return; // it was given up
    this.question = null;
    this.poll.asked = null;
    const now = Date.now();
    if (!why) {
      try {
        this.take(parse(text), now);
        this.poll.took = now - asked;
        this.poll.answered = now;
        this.poll.failed = null;
        this.failures = 0;
      } catch (error) {
        console.debug(error);
        why = "Its answer cannot be read";
      }
    }
    if (why) {
      this.failures += 1;
      this.interrupted = true;
      this.poll.why = why;
      this.poll.failed ??= now;
    }
    const rest = Math.min(POLL_MS, Math.max(0, POLL_MS - (now - asked)));
    const pause = this.failures ? backoff(this.failures, Math.random()) : rest;
    this.poll.next = now + pause;
    this.timer = setTimeout(() => this.ask(), pause);
    this.tick();
  }

  /** Give up the question that is under way, and ask no more. */
  stop() {
    clearTimeout(this.timer);
    this.question?.abort("stopped");
    this.question = null;
    this.poll.asked = null;
    this.interrupted = true;
  }

  pause(isPaused) {
    this.poll.paused = isPaused ? Date.now() : null;
    if (isPaused) this.stop();
    else this.ask();
    this.tick();
  }

  /** An answer. Raises where it is not what it should be. */
  take(status, now) {
    const before = this.status;
    // The server makes figures at most once a second, so two answers can be the same.
    if (before !== null && status.time_s === before.time_s && status.pid === before.pid) return;
    const isNew = before !== null && isNewStart(before, status);
    const sample = sampleOf(now, status, isNew || this.interrupted ? null : before);
    this.view.show(status, sample);
    this.past.add(sample, isNew);
    this.status = status;
    this.sample = sample;
    this.poll.made = now;
    this.interrupted = false;
    this.version ??= status.version;
    const notice = byId("notice");
    notice.hidden = status.version === this.version;
    if (!notice.hidden) {
      const news = `The server now runs version ${visible(status.version)}`;
      say(notice, `${news}; this page is of ${visible(this.version)}. Load it again.`);
    }
    if (isNew) this.startedAnew = true;
  }

  /** A cache was chosen. */
  choose(name) {
    this.view.choose(name);
    if (this.status !== null) this.view.show(this.status, this.sample);
    this.tick();
  }

  /** Tells a screen reader what has changed, and never what only counts up. */
  announce(condition) {
    if (!condition || (condition === this.said && !this.startedAnew)) return;
    say(byId("announcement"), `${this.startedAnew ? "The server was started anew. " : ""}${condition}.`);
    this.said = condition;
    this.startedAnew = false;
  }

  /** Time has passed, or something has happened. */
  tick() {
    if (document.hidden) return;
    const now = Date.now();
    const condition = conditionOf(this.poll, this.status?.state ?? "", now);
    mark(document.body, "data-condition", condition.kind);
    say(byId("condition-text"), condition.text);
    say(byId("condition-more"), condition.more);
    byId("retry").hidden = condition.kind !== "gone";
    document.title = TITLES[condition.kind] ?? "naught";
    this.announce(condition.said);
    if (this.status !== null) this.view.draw(this.past, this.status, this.poll.paused ?? now);
  }
}

function start() {
  const view = new View();
  const poller = new Poller(view);
  const look = byId("look");
  const lookAt = (milliseconds) => {
    view.lookedAt = Math.max(0, Math.min(KEPT_MS, milliseconds));
    look.value = String(-Math.round(view.lookedAt / 1000));
    poller.tick();
  };
  look.addEventListener("input", () => lookAt(-1000 * Number(look.value)));
  for (const charts of [byId("server-charts"), byId("cache-charts")]) {
    charts.addEventListener("pointermove", (event) => {
      const svg = event.target.closest?.("svg[data-chart]");
      if (!svg) return;
      const box = svg.getBoundingClientRect();
      lookAt(KEPT_MS * (1 - (event.clientX - box.left) / box.width));
    });
    charts.addEventListener("pointerleave", () => lookAt(0));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && view.lookedAt) lookAt(0);
  });
  byId("cache").addEventListener("change", (event) => poller.choose(event.target.value));
  byId("pause").addEventListener("click", (event) => {
    const isPaused = poller.poll.paused === null;
    mark(event.currentTarget, "aria-pressed", String(isPaused));
    poller.pause(isPaused);
  });
  byId("retry").addEventListener("click", () => poller.ask());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) poller.stop();
    else {
      poller.ask();
      poller.tick();
    }
  });
  setInterval(() => poller.tick(), 1_000);
  poller.tick();
  poller.ask();
}

start();
