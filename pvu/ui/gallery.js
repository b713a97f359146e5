// Renders cards as buttons, so that the keyboard reaches them. Text goes in as text, never as HTML.
// A card that has not changed keeps its node: neither its picture nor the keyboard's place is lost on a rerun.
function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function picture(data, row, className, alt) {
  const image = element("img", className);
  image.src = data.thumbs + row;
  image.alt = alt;
  image.loading = "lazy";
  return image;
}

function numbers(card) {
  const line = element("span", "numbers");
  if (card.similarity !== undefined) line.append(element("span", "similarity", card.similarity));
  if (card.percentile !== undefined) {
    const pill = element("span", "pill");
    const dot = element("span", "dot");
    dot.style.background = card.color;
    pill.append(dot, element("span", "", card.percentile));
    line.append(pill);
  }
  return line;
}

function openButton(data, card, gallery) {
  const button = element("button", "card " + card.tone);
  button.type = "button";
  button.title = card.tip;
  button.dataset.row = card.row;
  const frame = element("span", "frame");
  frame.append(picture(data, card.row, "picture", card.alt));
  if (card.mark) frame.append(element("span", "mark", card.mark));
  if (card.badge) frame.append(element("span", "badge", card.badge));
  button.append(frame, numbers(card));
  if (card.label) {
    const line = element("span", "label");
    if (card.same !== null) line.append(element("span", card.same ? "yes" : "no", card.same ? "✓ " : "✗ "));
    line.append(document.createTextNode(card.label));
    button.append(line);
  }
  button.onclick = (event) => {
    if (data.pick && (event.shiftKey || event.ctrlKey || event.metaKey)) gallery.tick(card.row, event.shiftKey);
    else gallery.send("clicked", card.row);
  };
  return button;
}

function cell(data, card, gallery) {
  const node = element("div", "cell");
  node.append(openButton(data, card, gallery));
  if (data.pick) {
    const box = element("input", "tick");
    box.type = "checkbox";
    box.tabIndex = -1; // the space bar ticks the card that has the focus
    box.title = "Pick this image (space bar); with shift all from the last one picked";
    box.setAttribute("aria-label", "Pick " + card.alt);
    box.onclick = (event) => gallery.tick(card.row, event.shiftKey);
    node.append(box);
  }
  if (card.note) node.append(element("p", "note", card.note));
  if (card.beside.length) {
    const strip = element("div", "beside");
    for (const other of card.beside) {
      const button = element("button", "small");
      button.type = "button";
      button.title = other.tip;
      button.dataset.row = other.row;
      button.append(picture(data, other.row, "picture", other.tip));
      button.onclick = () => gallery.send("clicked", other.row);
      strip.append(button);
    }
    node.append(strip);
  }
  if (card.offer) {
    const [words, key] = card.offer;
    const button = element("button", "offer", words);
    button.type = "button";
    button.title = "Key " + key.toUpperCase();
    button.onclick = () => gallery.say(key, [card.row]);
    node.append(button);
  }
  return node;
}

class Gallery {
  constructor(root) {
    this.root = root;
    this.cells = new Map(); // row -> {text, node}
    this.picked = new Set();
    this.presses = []; // pressed keys that the server has not confirmed yet
    this.count = 0;
    this.current = null; // the row that keys are about
    this.listen = (event) => this.onKey(event);
    root.addEventListener("focusin", (event) => {
      const card = event.target.closest("button.card");
      if (card) this.mark(Number(card.dataset.row));
    });
  }

  update(data, send) {
    this.send = send;
    this.data = data;
    this.count = Math.max(this.count, data.handled);
    this.presses = this.presses.filter((press) => press.number > data.handled);
    const place = this.rows ? this.rows.indexOf(this.current) : 0;
    const focused = this.root.getRootNode().activeElement;
    const hadFocus = focused && this.root.contains(focused);
    this.rows = data.cards.map((card) => card.row);
    this.root.style.setProperty("--card", data.width + "px");
    const cells = new Map();
    for (const card of data.cards) {
      const text = JSON.stringify([card, data.thumbs, data.pick]);
      const known = this.cells.get(card.row);
      cells.set(card.row, known && known.text === text ? known : { text, node: cell(data, card, this) });
    }
    this.cells = cells;
    const nodes = [...cells.values()].map((entry) => entry.node);
    if (nodes.length !== this.root.children.length || nodes.some((node, i) => node !== this.root.children[i]))
      this.root.replaceChildren(...nodes);
    this.picked = new Set(data.picked);
    this.showPicked();
    if (!this.cells.has(this.current)) this.current = this.rows[Math.min(Math.max(place, 0), this.rows.length - 1)] ?? null;
    this.mark(this.current);
    if (hadFocus) this.button(this.current)?.focus({ preventScroll: true });
  }

  button(row) {
    return this.cells.get(row)?.node.querySelector("button.card");
  }

  mark(row) {
    this.current = row;
    const keyed = Object.keys(this.data.keys).length > 0;
    for (const [other, { node }] of this.cells) node.classList.toggle("current", keyed && other === row);
  }

  showPicked() {
    for (const [row, { node }] of this.cells) {
      node.classList.toggle("picked", this.picked.has(row));
      const box = node.querySelector("input.tick");
      if (box) box.checked = this.picked.has(row);
    }
  }

  tick(row, range) {
    const from = this.rows.indexOf(this.last), to = this.rows.indexOf(row);
    if (range && from >= 0) {
      for (const each of this.rows.slice(Math.min(from, to), Math.max(from, to) + 1)) this.picked.add(each);
    } else if (!this.picked.delete(row)) this.picked.add(row);
    this.last = row;
    this.showPicked();
    this.send("picked", [...this.picked]);
  }

  move(step) {
    const place = Math.min(Math.max(this.rows.indexOf(this.current) + step, 0), this.rows.length - 1);
    this.mark(this.rows[place]);
    this.button(this.current)?.focus();
  }

  columns() {
    const first = this.root.children[0]?.offsetTop;
    const count = [...this.root.children].findIndex((node) => node.offsetTop !== first);
    return count > 0 ? count : this.rows.length;
  }

  onKey(event) {
    const typing = event.composedPath().some((node) => node.matches?.("input:not(.tick), textarea, select, [contenteditable=true]"));
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !this.root.isConnected || !this.root.offsetParent) return;
    // Behind the image panel: the key would be about another image than the one that is looked at.
    const dialog = document.querySelector("[role=dialog]");
    if (dialog && !dialog.contains(this.root.getRootNode().host ?? this.root)) return;
    const inside = event.composedPath().includes(this.root);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns(), ArrowUp: -this.columns() };
    if (event.key in this.data.keys) event.repeat || this.press(event.key); // a key held down is pressed once
    else if (inside && event.key in steps) this.move(steps[event.key]);
    else if (inside && event.key === " " && this.data.pick) this.tick(this.current, event.shiftKey);
    else return;
    event.preventDefault();
  }

  press(key) {
    const rows = this.picked.size ? [...this.picked] : this.current === null ? [] : [this.current];
    this.say(key, rows);
    if (!this.picked.size) this.move(1);
  }

  say(key, rows) {
    this.presses.push({ number: ++this.count, key, rows });
    this.send("pressed", this.presses);
  }
}

const galleries = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".gallery");
  if (!galleries.has(root)) galleries.set(root, new Gallery(root));
  const shown = galleries.get(root);
  shown.update(data, setTriggerValue);
  // The same function every time: the browser then keeps one, and a key counts once however often this has run.
  document.addEventListener("keydown", shown.listen);
  // Streamlit also calls this for a run that a newer one has overtaken, with the gallery still there.
  return () => root.isConnected || document.removeEventListener("keydown", shown.listen);
}
