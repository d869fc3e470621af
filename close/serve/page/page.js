"use strict";

const $ = (id) => document.getElementById(id);
const WANTS = { vqa: "Question", vqa_e: "Question", entailment: "Hypothesis", nlvr2: "Statement", caption: "" };
const TRIES = 6;
let runs = [];
let samples = [];
const NAMES = { recordings: ["a recording", "recordings"], films: ["a film", "films"] };
let WORDS = ["a picture", "pictures"];
let items = [];
let begun = [];
let key = sessionStorage.getItem("close-key") || "";

/** An element with properties, classes and children; text is text, whatever it holds. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const decimal = (number) => number.toFixed(2).replace("-", "−");
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** What the server answers; asks for its key where it wants one, and again where it is busy. */
async function ask(path, options = {}, told = () => {}) {
  for (let left = TRIES; ; left--) {
    const headers = { ...(options.headers || {}), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch {
      throw new Error("The server can't be reached. Is it still running?");
    }
    if (answer.status === 401) {
      if (!(await askKey())) throw new Error("This server wants its key.");
      continue;
    }
    if (answer.status === 503 && left > 1) {
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      told(`Busy; trying again in ${seconds} s`);
      await pause(seconds);
      continue;
    }
    let values;
    try {
      values = await answer.json();
    } catch {
      throw new Error(`The server answered ${answer.status}, and nothing that can be read.`);
    }
    if (!answer.ok) throw new Error(values.error || `The server answered ${answer.status}.`);
    return values;
  }
}

let asking = null;
function askKey() {
  asking ||= new Promise((done) => {
    const dialog = $("key");
    dialog.addEventListener("close", () => {
      key = $("key-value").value.trim();
      sessionStorage.setItem("close-key", key);
      asking = null;
      done(dialog.returnValue === "ok");
    }, { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asking;
}

// what is asked

const chosen = () => runs.find((run) => run.name === $("run").value) || runs[0];
const task = () => document.querySelector("#segments input:checked")?.value || chosen().tasks[0].name;
const wants = (name) => WANTS[name] ?? "Context";
const needsContext = () => ["Question", "Hypothesis", "Statement"].includes(wants(task()));
const views = (run = chosen()) => (run.tasks.find((one) => one.name === task()) || run.tasks[0]).views;

function showTasks() {
  const before = document.querySelector("#segments input:checked")?.value;
  const names = chosen().tasks.map((one) => one.name);
  $("segments").replaceChildren(...names.map((name) => make("label", {},
    make("input", { type: "radio", name: "task", value: name, checked: name === (names.includes(before) ? before : names[0]) }), name)));
  $("tasks").hidden = names.length < 2;
  const run = chosen();
  const adapter = [run.adapter].flat().map((one) => (typeof one === "string" ? one : Object.keys(one || {}).join(" "))).filter(Boolean).join(", ");
  $("about").textContent = `${run.name}: ${(run.parameters / 1e6).toFixed(1)} million parameters (${run.language_model}), encoder ${run.encoder}, ` +
    `adapter ${adapter || "none"}.`;
  showContext();
}

function showContext() {
  const label = wants(task());
  $("context-field").hidden = !label;
  $("context-label").textContent = label;
  const own = items.length && items[0].views?.[0].sample ? [items[0].views[0].sample] : samples;
  const kind = { Question: "questions", Hypothesis: "hypotheses" }[label];
  const ideas = kind ? own.flatMap((sample) => sample[kind] || []).slice(0, 12) : [];
  $("ideas").replaceChildren(...ideas.map((value) => make("option", { value })));
  $("context").placeholder = ideas[0] || "";
  $("again").textContent = needsContext() ? "Ask" : "Ask again";
  $("text-note").hidden = views() > 1;
  $("text-lines").hidden = views() < 2;
  tellBegun();
}

/** The fields of a request to one run. */
function fields(run) {
  const own = run.tasks.find((one) => one.name === task()) || run.tasks[0];
  const labels = $("labels").value.split(",").map((label) => label.trim()).filter(Boolean);
  const found = { run: run.name, task: own.name, n: Number($("n").value) };
  if (wants(own.name) && $("context").value.trim()) found.context = $("context").value.trim();
  if (labels.length) found.labels = labels;
  if (labels.length || own.labels.length) {
    found.decode = "score";
    delete found.n;
  } else if ($("rerank").value) found.rerank = $("rerank").value;
  if (found.n === 1 && !found.rerank) delete found.n;
  return found;
}

function request(item, run) {
  const values = fields(run);
  if ((item.texts || item.views).length > 1) values.together = true;
  if (item.texts) {
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...values, texts: item.texts }) };
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(values)) for (const each of [value].flat()) form.append(name, each);
  for (const view of item.views) form.append("images", view.file, view.name);
  return { method: "POST", body: form };
}

// what is shown

/** A picture or a recording as it is shown. */
function view({ file, name, url, sample }) {
  if (file.type.startsWith("audio/")) return make("audio", { controls: true, ariaLabel: `Your recording ${name}`, src: url });
  const shown = make("img", { alt: sample ? sample.caption : `Your picture ${name}`, src: url });
  shown.addEventListener("load", () => shown.classList.toggle("tiny", shown.naturalWidth <= 128));
  shown.addEventListener("error", () => shown.replaceWith(make("div", { className: "absent", textContent: "Your browser shows no preview of this file" })));
  return shown;
}

/** An item of texts, or of views: files with their names and addresses. */
function add(item) {
  const li = make("li", { className: `item card ${item.texts ? "text" : "image"}` });
  const sound = item.views?.[0].file.type.startsWith("audio/");
  const kind = make("span", { className: "kind", textContent: item.texts ? "Text" : sound ? "Sound" : "Picture" });
  const shown = item.texts ? item.texts.map((text) => make("blockquote", { textContent: text })) : item.views.map(view);
  item.name = (item.texts || item.views.map((one) => one.name)).join(" · ");
  const figure = make("figure", { className: "shown" }, ...shown, make("figcaption", {}, kind, ` ${item.texts ? `in place of ${WORDS[0]}` : item.name}`));
  item.answers = make("div", { className: "answers" });
  item.asked = 0;
  li.append(figure, item.answers);
  $("cards").prepend(li);
  items.unshift(item);
  $("empty").hidden = true;
  $("clear").hidden = $("again").disabled = false;
  showContext();
  if (matchMedia("(max-width: 860px)").matches) li.scrollIntoView({ block: "nearest" });
  answer(item);
}

async function answer(item) {
  const number = ++item.asked;
  const two = [$("run").value, $("beside").value].filter(Boolean);
  if (needsContext() && !$("context").value.trim()) {
    const label = wants(task()).toLowerCase();
    item.answers.replaceChildren(make("p", { className: "waiting", textContent: `Write a ${label}, and ask.` }));
    $("context").focus();
    return;
  }
  const columns = two.map((name) => {
    const body = make("div", {}, make("p", { className: "waiting", textContent: "…" }));
    const column = make("div", { className: "answer" }, two.length > 1 ? make("p", { className: "by", textContent: name }) : null, body);
    return { run: runs.find((run) => run.name === name), body, column };
  });
  item.answers.replaceChildren(...columns.map((one) => one.column));
  await Promise.all(columns.map(async ({ run, body }) => {
    const told = (text) => item.asked === number && body.replaceChildren(make("p", { className: "waiting", textContent: text }));
    try {
      const found = await ask("/v1/caption", request(item, run), told);
      if (item.asked === number) show(item, body, found.outputs[0], run);
    } catch (error) {
      if (item.asked !== number) return;
      body.replaceChildren(make("p", { className: "error", textContent: error.message }));
      say(`${item.name}: ${error.message}`);
    }
  }));
}

function show(item, body, output, run) {
  const said = make("p", { className: output.text ? "said" : "said none", textContent: output.text || "(nothing)" });
  const sure = [];
  if (output.confidence !== undefined) sure.push(`${percent(output.confidence)} of such outputs are right`);
  else if (output.probabilities) sure.push(`${percent(output.probabilities[output.text] ?? 0)} of the answers' probability`);
  else sure.push(`${percent(Math.exp(output.score))} sure of each token`);
  sure.push(`score ${decimal(output.score)}`);
  body.replaceChildren(said, make("p", { className: "sure", textContent: sure.join(" · ") }));
  const rows = output.probabilities
    ? Object.entries(output.probabilities).map(([text, share]) => ({ text, share, number: percent(share) }))
    : (output.candidates || []).map((one) => ({
      text: one.text || "(nothing)",
      share: Math.exp(one.score),
      number: percent(Math.exp(one.score)) + (one.cosine == null ? "" : ` · cosine ${decimal(one.cosine)}`),
    }));
  if (rows.length > 1) {
    body.append(make("ol", { className: "bars", ariaLabel: output.probabilities ? "Probabilities" : "Candidates" }, ...rows.slice(0, 12).map((row) =>
      make("li", {}, make("div", { className: "line" }, make("span", { textContent: row.text }), make("span", { className: "number", textContent: row.number })), bar(row.share)))));
  }
  if (item.views?.length === 1 && output.text && !output.probabilities && !wants(fields(run).task)) {
    const back = make("button", { type: "button", className: "link", textContent: "Feed this back as text" });
    back.addEventListener("click", () => add({ texts: [output.text] }));
    body.append(make("p", { className: "actions" }, back));
  }
  say(`${item.name}: ${output.text || "nothing"}`);
}

function bar(share) {
  const fill = make("i", { className: "fill" });
  fill.style.width = `${100 * Math.min(1, share)}%`;
  const track = make("div", { className: "track" }, fill);
  track.setAttribute("aria-hidden", "true");
  return track;
}

function say(text) {
  $("status").textContent = text;
}

// what a person does

function take(files) {
  for (const file of files) gather({ name: file.name || "pasted picture", file, url: URL.createObjectURL(file) });
}

/** Views become an item when there are as many as the task takes of each. */
function gather(view) {
  begun.push(view);
  if (begun.length >= views()) add({ views: begun.splice(0, views()) });
  tellBegun();
}

function tellBegun() {
  const left = views() - begun.length;
  $("begun").textContent = begun.length ? `${begun.map((one) => one.name).join(", ")}: ${left} more, ${task()} takes ${views()} at once` : "";
}

function address(sample) {
  return `data:${sample.type};base64,${sample.data}`;
}

function thumb(sample) {
  if (sample.type.startsWith("image/")) return make("img", { alt: "", src: address(sample) });
  return make("span", { className: "sound", textContent: `♪ ${sample.name.replace(/\D+/, "")}` });
}

async function takeSample(sample) {
  const bytes = Uint8Array.from(atob(sample.data), (one) => one.charCodeAt(0));
  gather({ name: sample.name, sample, file: new Blob([bytes], { type: sample.type }), url: address(sample) });
}

function feed() {
  const texts = views() > 1 ? $("text").value.split("\n").map((line) => line.trim()).filter(Boolean) : [$("text").value.trim()];
  if (texts[0]) add({ texts });
  else $("text").focus();
}

function listen() {
  $("drop").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => { take($("files").files); $("files").value = ""; });
  let depth = 0;
  const over = (change) => { depth = Math.max(0, depth + change); document.body.classList.toggle("over", depth > 0); };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); over(-depth); take(event.dataTransfer.files); });
  addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    take(event.clipboardData.files);
  });
  $("feed").addEventListener("click", feed);
  $("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    feed();
  });
  $("run").addEventListener("change", showTasks);
  $("segments").addEventListener("change", showContext);
  $("controls").addEventListener("submit", (event) => { event.preventDefault(); items.forEach(answer); });
  $("clear").addEventListener("click", () => {
    items.forEach((item) => { item.asked++; });
    [...begun, ...items.flatMap((item) => item.views || [])].forEach(({ url }) => { if (url.startsWith("blob:")) URL.revokeObjectURL(url); });
    [items, begun] = [[], []];
    tellBegun();
    $("cards").replaceChildren();
    $("empty").hidden = false;
    $("clear").hidden = $("again").disabled = true;
    $("drop").focus();
  });
}

async function begin() {
  listen();
  $("address").textContent = location.origin;
  try {
    runs = (await ask("/v1/runs")).runs;
    samples = (await ask("/v1/samples")).samples;
  } catch (error) {
    $("about").textContent = error.message;
    return;
  }
  WORDS = NAMES[runs[0].items] || WORDS;
  document.querySelectorAll("[data-word]").forEach((one) => { one.textContent = WORDS[one.dataset.word]; });
  $("run").replaceChildren(...runs.map((run) => make("option", { textContent: run.name })));
  $("beside").replaceChildren(make("option", { value: "", textContent: "nothing" }), ...runs.map((run) => make("option", { textContent: run.name })));
  $("beside-field").hidden = runs.length < 2;
  $("samples").hidden = !samples.length;
  $("thumbs").replaceChildren(...samples.map((sample) => {
    const button = make("button", { type: "button", ariaLabel: `${sample.name}: ${sample.caption}` }, thumb(sample));
    button.addEventListener("click", () => takeSample(sample));
    return button;
  }));
  showTasks();
}

begin();
