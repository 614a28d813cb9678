// What only the browser can do for a form: the clipboard, downloads, what screen readers hear.

const SLIDERS = ".noUi-handle";

const number = (text) => Number(text.replaceAll(",", ""));

// The text of a slider's place: the entry's number, which is exact, unless the slider has left it.
function spoken(handle, places) {
  const size = handle.closest(".nb-size");
  if (!size) return handle.closest(".widget-slider")?.querySelector(".widget-readout")?.textContent;
  const name = [...size.classList].map((one) => one.slice(3)).find((one) => one in places);
  const stops = places[name] ?? [];
  const at = Math.round(Number(handle.getAttribute("aria-valuenow")));
  const typed = size.querySelector("input").value.trim();
  const value = number(typed);
  const far = stops.map((stop) => Math.abs(number(stop) - value));
  const isThere = typed && far.lastIndexOf(Math.min(...far)) === at;
  return isThere ? typed.replace(/^\d+$/, (digits) => Number(digits).toLocaleString("en")) : stops[at];
}

function put(element, name, value) {
  if (value && element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// Names and values that the widgets leave out.
function describe(root, places) {
  for (const handle of root.querySelectorAll(SLIDERS)) {
    const row = handle.closest(".nb-size") ?? handle.closest(".widget-slider");
    put(handle, "aria-label", row?.querySelector(".widget-label")?.textContent.trim() || row?.title);
    put(handle, "aria-valuetext", spoken(handle, places));
  }
  for (const readout of root.querySelectorAll(".widget-readout[contenteditable]")) {
    put(readout, "role", "textbox");
    put(readout, "aria-label", readout.closest(".widget-slider")?.querySelector(".widget-label")?.textContent.trim());
  }
  for (const group of root.querySelectorAll(".nb-phase")) {
    put(group, "role", "group");
    put(group, "aria-label", "phase");
    for (const one of group.querySelectorAll("button")) {
      put(one, "aria-pressed", String(one.classList.contains("mod-active")));
    }
  }
  for (const fold of root.querySelectorAll("button.nb-fold")) {
    put(fold, "aria-expanded", String(fold.classList.contains("mod-active")));
  }
  for (const short of root.querySelectorAll("button.nb-short[title]")) put(short, "aria-label", short.title);
}

// A list of choices shows those that match what stands in the field: the field is empty while one chooses.
function offerAll(input) {
  if (!input || input.dataset.offers) return;
  input.dataset.offers = "all";
  input.addEventListener("pointerdown", () => {
    if (document.activeElement === input || !input.value) return;
    input.placeholder = input.value;
    input.value = "";
    const back = () => {
      if (!input.value) input.value = input.placeholder;
      input.placeholder = "";
    };
    input.addEventListener("blur", back, { once: true });
  });
}

// The table that stays in the notebook says what the form began with: beside a live form it is only stale.
function hide(root, hidden) {
  const all = [...document.querySelectorAll(".nb-whatif, .nb-began")];
  const next = all[all.indexOf(root) + 1];
  if (!all.includes(root) || !next?.classList.contains("nb-began") || hidden.includes(next)) return;
  next.style.display = "none";
  hidden.push(next);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea"); // where a page may not use the clipboard itself
    field.value = text;
    field.style.position = "fixed";
    document.body.append(field);
    field.select();
    const isDone = document.execCommand("copy");
    field.remove();
    return isDone;
  }
}

function save(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function render({ model, el }) {
  const box = document.createElement("div");
  const buttons = document.createElement("div");
  const said = document.createElement("div");
  box.className = "nb-clipboard";
  buttons.className = "nb-lines";
  said.className = "nb-copied";
  said.setAttribute("role", "status");
  box.append(buttons, said);
  el.append(box);

  const hidden = [];
  let root = null;
  let watcher = null;

  function offer() {
    const lines = model.get("lines");
    lines.forEach(({ name }, index) => {
      let button = buttons.children[index];
      if (!button) {
        button = document.createElement("button");
        button.type = "button";
        button.className = "jupyter-button lm-Widget widget-button";
        button.addEventListener("click", () => press(index));
        buttons.append(button);
      }
      button.textContent = `Copy ${name}`;
      button.title = model.get("lines")[index].line;
    });
    while (buttons.children.length > lines.length) buttons.lastChild.remove();
    said.replaceChildren();
  }

  async function press(index) {
    const { line, name } = model.get("lines")[index];
    if (!line.startsWith("%")) {
      said.textContent = line;
      return;
    }
    const isDone = await copy(line);
    const code = document.createElement("code");
    code.textContent = line;
    said.replaceChildren(isDone ? `${name} copied: ` : "The browser does not let a page copy. The line: ", code);
    if (!isDone) getSelection().selectAllChildren(code);
  }

  function look() {
    root ??= el.closest(".nb-whatif");
    if (!root) return;
    const places = model.get("places");
    describe(root, places);
    offerAll(root.querySelector(".nb-model input"));
    offerAll(root.querySelector(".nb-beside input"));
    root.classList.toggle("nb-is-stale", model.get("is_stale"));
    hide(root, hidden);
    const inputs = root.querySelector(".nb-inputs");
    if (!watcher && inputs) {
      watcher = new MutationObserver(() => describe(root, model.get("places")));
      watcher.observe(inputs, { attributeFilter: ["aria-valuenow"], childList: true, subtree: true });
    }
  }

  // The form is put together after its parts, its table comes after it, and a notebook may show it much later.
  const seen = new IntersectionObserver(look);
  seen.observe(box);
  let tries = 0;
  const clock = setInterval(() => {
    look();
    tries += 1;
    if ((watcher && hidden.length) || tries > 100) clearInterval(clock);
  }, 50);

  const receive = (message, buffers) => {
    if (message.download) save(message.download, buffers[0]);
  };
  model.on("change:lines", offer);
  model.on("change:turn", look);
  model.on("change:is_stale", look);
  model.on("msg:custom", receive);
  offer();

  return () => {
    clearInterval(clock);
    seen.disconnect();
    watcher?.disconnect();
    for (const one of hidden) one.style.display = "";
    model.off("change:lines", offer);
    model.off("change:turn", look);
    model.off("change:is_stale", look);
    model.off("msg:custom", receive);
  };
}

export default { render };
