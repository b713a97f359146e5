// The map: one WebGL trace of plotly.js. Columns come as binary by their own addresses and are fetched once, so that a
// new colour, filter or selection sends neither the points nor the colours that were seen before again.
const FADED = 0.12;

let plotly; // loaded once for all maps of the page
function loadPlotly(address) {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotly = undefined;
      script.remove();
      reject(new Error("plotly.js"));
    };
    document.head.append(script);
  });
  return plotly;
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// A set of rows as the server packs it: a bit a row, base64. null is "all".
function bits(text) {
  if (text === null) return () => true;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return (row) => (bytes[row >> 3] >> (row & 7)) & 1;
}

let webgl; // asked once: browsers take the context of an older map away when there are more than a dozen
const hasWebGL = () => (webgl ??= Boolean(document.createElement("canvas").getContext("webgl")));

class PointMap {
  constructor(root) {
    this.root = root;
    this.columns = new Map(); // address -> promise of a typed array
    this.facts = new Map(); // row -> promise of what the server says of it
    this.chart = root.querySelector(".chart");
    this.tip = root.querySelector(".tip");
    this.legend = root.querySelector(".legend");
    this.status = root.querySelector(".status");
    this.outline = root.querySelector(".outline polygon");
    this.tool = "lasso";
    for (const button of root.querySelectorAll("button[data-tool]"))
      button.onclick = () => this.useTool(button.dataset.tool);
    for (const button of root.querySelectorAll("button[data-do]")) button.onclick = () => this[button.dataset.do]();
    root.addEventListener("keydown", (event) => this.onKey(event));
    this.chart.addEventListener("mouseleave", () => this.leave());
    this.chart.addEventListener("pointerdown", (event) => this.startShape(event));
  }

  column(address, Type) {
    if (!this.columns.has(address)) {
      const loading = fetch(address).then(async (response) => {
        if (!response.ok) throw new Error(response.status);
        return new Type(await response.arrayBuffer());
      });
      loading.catch(() => this.columns.delete(address));
      this.columns.set(address, loading);
    }
    return this.columns.get(address);
  }

  async update(data, send) {
    this.send = send;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    if (data.version !== this.version) this.forget(data.version);
    this.data = data;
    try {
      const [Plotly, steps, rows, values, percentiles] = await Promise.all([
        loadPlotly(data.plotly),
        this.column(data.points, Uint16Array),
        data.rows && this.column(data.rows, Int32Array),
        this.column(data.color.address, Float32Array),
        data.size && this.column(data.percentiles, Float32Array),
      ]);
      if (turn !== this.turn) return; // a newer run has overtaken this one
      this.status.textContent = "";
      this.place(steps, rows);
      await this.draw(Plotly, values, percentiles);
      this.root.dataset.drawn = turn;
    } catch (error) {
      if (turn !== this.turn) return;
      this.status.textContent = "The map could not be loaded. Reload the page; if that does not help, restart the app.";
      console.warn(error);
    }
  }

  forget(version) {
    this.version = version;
    this.columns.clear();
    this.facts.clear();
    this.x = null;
    if (this.gd) window.Plotly.purge(this.gd);
    this.gd = null;
  }

  // When the page is left: Plotly listens to the window, and would keep the map and its WebGL contexts for ever.
  close() {
    this.turn += 1; // what is still being fetched is not drawn
    this.stopShape?.();
    this.forget(null);
  }

  // Places from 16-bit steps, made once a data set.
  place(steps, rows) {
    if (this.x) return;
    const count = steps.length / 2;
    const [[x0, y0], [dx, dy]] = this.data.frame;
    this.rows = rows ?? Int32Array.from({ length: count }, (_, i) => i);
    this.x = Float32Array.from({ length: count }, (_, i) => x0 + dx * steps[i]);
    this.y = Float32Array.from({ length: count }, (_, i) => y0 + dy * steps[count + i]);
  }

  async draw(Plotly, values, percentiles) {
    const { data } = this;
    const isShown = bits(data.shown), isSelected = data.selected === null ? null : bits(data.selected);
    const kept = [];
    for (let i = 0; i < this.rows.length; i++) if (isShown(this.rows[i])) kept.push(i);
    const all = kept.length === this.rows.length;
    const take = (column) => (all ? column : Float32Array.from(kept, (i) => column[i]));
    this.shownRows = all ? this.rows : Int32Array.from(kept, (i) => this.rows[i]);
    const scale = this.scale(take(values));
    const base = Math.min(Math.max(60 / Math.sqrt(Math.max(kept.length, 1)) + 3, 3.2), 10);
    const marker = { color: scale.values, colorscale: scale.colors, cmin: 0, cmax: 1, size: base, opacity: kept.length > 30000 ? 0.7 : 0.9, line: { width: 0 } };
    if (data.size && percentiles) {
      // The paper's look: uncertain images are large and faint.
      const shares = take(percentiles);
      marker.size = Float32Array.from(shares, (p) => base * (0.6 + (2.2 * p) / 100));
      marker.opacity = Float32Array.from(shares, (p) => 0.95 - (0.7 * p) / 100);
    }
    const points = {
      type: hasWebGL() ? "scattergl" : "scatter",
      mode: "markers",
      x: take(this.x),
      y: take(this.y),
      marker,
      hoverinfo: "none",
      showlegend: false,
      unselected: { marker: { opacity: FADED } },
    };
    if (isSelected) {
      points.selectedpoints = [];
      for (let i = 0; i < this.shownRows.length; i++) if (isSelected(this.shownRows[i])) points.selectedpoints.push(i);
      if (!data.size) points.selected = { marker: { opacity: 1 } };
    }
    const traces = [points, this.ring()];
    const axis = { visible: false, showgrid: false, zeroline: false };
    const layout = {
      margin: { l: 0, r: 0, t: 0, b: 0 }, height: this.chart.clientHeight, xaxis: { ...axis }, yaxis: { ...axis }, hovermode: "closest",
      hoverdistance: 12, dragmode: this.dragmode, showlegend: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", uirevision: data.version,
    };
    // The user's own part of the map stays in sight, whatever is filtered; at first it is the whole.
    for (const name of ["xaxis", "yaxis"]) layout[name].range = this.gd ? [...this.gd.layout[name].range] : this.whole(name);
    const first = !this.gd;
    this.gd = this.chart;
    await Plotly.react(this.gd, traces, layout, { scrollZoom: true, displayModeBar: false, responsive: true, doubleClick: "reset", doubleClickDelay: 400 });
    if (first) this.listen(Plotly);
    this.showLegend();
    this.showTool();
  }

  // The range of an axis that shows every image.
  whole(name) {
    const side = name === "xaxis" ? 0 : 1, [low, step] = this.data.frame.map((pair) => pair[side]);
    const span = 65535 * step;
    return [low - 0.04 * span, low + 1.04 * span];
  }

  // Images that another part of the page points at.
  ring() {
    return {
      type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false,
      x: this.data.ring.map(([, x]) => x), y: this.data.ring.map(([, , y]) => y),
      marker: { symbol: "circle-open", size: 20, color: "#D02020", line: { width: 3 } },
    };
  }

  // Values in [0, 1] for Plotly's colour scale; below it one grey for "nothing known".
  scale(values) {
    const { low, high, legend, colors } = this.data.color;
    const grey = "#B8BCC2";
    if (legend.length) {
      const count = legend.length;
      const steps = legend.flatMap(([, color], i) => [[i / count, color], [(i + 1) / count, color]]);
      return { values: Float32Array.from(values, (v) => (v + 0.5) / count), colors: steps };
    }
    const edge = 0.02;
    const steps = [[0, grey], [edge / 2, grey], [edge / 2, colors[0][1]], ...colors.map(([at, color]) => [edge + at * (1 - edge), color])];
    const spread = (v) => (Number.isNaN(v) ? 0 : edge + (1 - edge) * Math.min(Math.max((v - low) / (high - low), 0), 1));
    return { values: Float32Array.from(values, spread), colors: steps };
  }

  showLegend() {
    const { title, legend, colors, ticks } = this.data.color;
    const parts = [element("strong", "title", title)];
    if (legend.length) {
      for (const [name, color] of legend) {
        const entry = element("span", "entry");
        const dot = element("span", "dot");
        dot.style.background = color;
        entry.title = name; // where it is too long to be shown
        entry.append(dot, document.createTextNode(name));
        parts.push(entry);
      }
    } else {
      const bar = element("span", "bar");
      bar.style.background = `linear-gradient(to right, ${colors.map(([at, color]) => `${color} ${100 * at}%`).join(", ")})`;
      const words = element("span", "ticks");
      words.append(...ticks.map(([, word]) => element("span", "", word)));
      const both = element("span", "scale");
      both.append(bar, words);
      parts.push(both);
    }
    this.legend.replaceChildren(...parts);
  }

  listen(Plotly) {
    this.gd.on("plotly_hover", (event) => this.hover(event.points[0], event.event));
    this.gd.on("plotly_unhover", () => this.leave());
    this.gd.on("plotly_click", (event) => {
      const point = event.points.find((each) => each.curveNumber === 0);
      if (point && !this.drew) this.send("clicked", this.shownRows[point.pointNumber]);
    });
  }

  // Lasso and box are drawn here and tested on the server: Plotly's own tools test and redraw every point at each move of
  // the hand, which takes seconds with 300,000 of them.
  startShape(event) {
    this.drew = false;
    if (this.tool === "pan" || event.button !== 0 || !event.isPrimary || !this.gd) return;
    const box = this.chart.getBoundingClientRect();
    const at = (each) => [each.clientX - box.left, each.clientY - box.top];
    const start = at(event);
    this.trail = [start];
    const move = (each) => {
      if (!each.isPrimary) return; // a second finger
      const here = at(each), last = this.trail[this.trail.length - 1];
      if (Math.hypot(here[0] - last[0], here[1] - last[1]) < 3) return;
      this.leave();
      if (this.tool === "lasso") this.trail.push(here);
      else this.trail = [start, [here[0], start[1]], here, [start[0], here[1]]];
      this.outline.setAttribute("points", this.trail.map((point) => point.join(",")).join(" "));
    };
    const stop = () => {
      for (const [name, listener] of listeners) window.removeEventListener(name, listener);
      this.outline.setAttribute("points", "");
      this.stopShape = null;
    };
    const end = (each) => {
      if (!each.isPrimary) return;
      stop();
      this.endShape(each.shiftKey || event.shiftKey);
    };
    const escape = (each) => each.key === "Escape" && stop();
    const listeners = [["pointermove", move], ["pointerup", end], ["pointercancel", stop], ["keydown", escape]];
    this.stopShape?.();
    this.stopShape = stop;
    for (const [name, listener] of listeners) window.addEventListener(name, listener);
  }

  endShape(add) {
    const { xaxis, yaxis } = this.gd._fullLayout;
    const trail = this.tool === "lasso" ? this.trail : [this.trail[0], this.trail[2]];
    if (this.trail.length < 3) return; // a click: Plotly tells of it
    this.drew = true; // what follows is no click
    const x = trail.map(([left]) => xaxis.p2d(left - xaxis._offset)), y = trail.map(([, top]) => yaxis.p2d(top - yaxis._offset));
    this.send("drawn", { kind: this.tool === "lasso" ? "lasso" : "box", x, y, add });
  }

  about(row) {
    if (!this.facts.has(row)) {
      const asked = fetch(`${this.data.address}/about/${row}`).then((response) => {
        if (!response.ok) throw new Error(response.status);
        return response.json();
      });
      asked.catch(() => this.facts.delete(row));
      this.facts.set(row, asked);
    }
    return this.facts.get(row);
  }

  async hover(point, event) {
    if (point.curveNumber !== 0) return;
    const row = this.shownRows[point.pointNumber];
    this.hovered = row;
    const facts = await this.about(row).catch(() => null);
    if (!facts || this.hovered !== row) return;
    const image = element("img", "");
    image.src = `${this.data.address}/thumb/${row}`;
    image.alt = facts.path;
    const name = facts.path.split("/").pop();
    const lines = [element("strong", "", facts.label || name)];
    if (facts.label) lines.push(element("span", "", name));
    if (facts.percentile !== null) lines.push(element("span", "", `at least as uncertain as ${facts.percentile.toFixed(0)} %`), element("span", "", `u = ${facts.u.toFixed(3)}`));
    const words = element("div", "words");
    words.append(...lines);
    this.tip.replaceChildren(image, words);
    this.tip.dataset.row = row;
    const box = this.chart.getBoundingClientRect();
    const left = event.clientX - box.left, top = event.clientY - box.top;
    this.tip.style.left = (left > box.width / 2 ? left - 16 : left + 16) + "px";
    this.tip.style.top = (top > box.height / 2 ? top - 12 : top + 12) + "px";
    this.tip.style.transform = `translate(${left > box.width / 2 ? "-100%" : "0"}, ${top > box.height / 2 ? "-100%" : "0"})`;
    this.tip.hidden = false;
  }

  leave() {
    this.hovered = null;
    this.tip.hidden = true;
  }

  useTool(tool) {
    this.tool = tool;
    this.showTool();
    if (this.gd) window.Plotly.relayout(this.gd, { dragmode: this.dragmode });
  }

  get dragmode() {
    return this.tool === "pan" ? "pan" : false;
  }

  showTool() {
    for (const button of this.root.querySelectorAll("button[data-tool]"))
      button.setAttribute("aria-pressed", String(button.dataset.tool === this.tool));
  }

  clear() {
    // While a shape is drawn the Escape key gives up that shape alone.
    if (!this.stopShape && this.data.selected !== null) this.send("drawn", { kind: "clear" });
  }

  zoom(factor, dx = 0, dy = 0) {
    if (!this.gd) return;
    const change = {};
    for (const [name, shift] of [["xaxis", dx], ["yaxis", dy]]) {
      const [low, high] = this.gd.layout[name].range.map(Number);
      const middle = (low + high) / 2 + shift * (high - low), half = ((high - low) / 2) * factor;
      change[name + ".range"] = [middle - half, middle + half];
    }
    window.Plotly.relayout(this.gd, change);
  }

  zoomIn() {
    this.zoom(0.7);
  }

  zoomOut() {
    this.zoom(1 / 0.7);
  }

  reset() {
    if (this.gd) window.Plotly.relayout(this.gd, { "xaxis.range": this.whole("xaxis"), "yaxis.range": this.whole("yaxis") });
  }

  onKey(event) {
    const doings = {
      "+": () => this.zoomIn(), "=": () => this.zoomIn(), "-": () => this.zoomOut(), 0: () => this.reset(), Escape: () => this.clear(),
      ArrowLeft: () => this.zoom(1, -0.15), ArrowRight: () => this.zoom(1, 0.15), ArrowUp: () => this.zoom(1, 0, 0.15), ArrowDown: () => this.zoom(1, 0, -0.15),
      p: () => this.useTool("pan"), l: () => this.useTool("lasso"), b: () => this.useTool("box"),
    };
    if (!(event.key in doings) || event.ctrlKey || event.metaKey) return;
    doings[event.key]();
    event.preventDefault();
  }
}

const maps = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".pvu-map");
  if (!maps.has(root)) maps.set(root, new PointMap(root));
  maps.get(root).update(data, setTriggerValue);
  // Streamlit also calls this for a run that a newer one has overtaken, with the map still there.
  return () => root.isConnected || maps.get(root).close();
}
