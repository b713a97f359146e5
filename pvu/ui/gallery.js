// Renders cards as buttons, so that the keyboard reaches them. Text goes in as text, never as HTML.
function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function render(card, onClick) {
  const button = element("button", "card " + card.tone);
  button.type = "button";
  button.title = card.tip;
  button.dataset.row = card.row;
  const frame = element("span", "frame");
  const image = element("img", "picture");
  image.src = card.src;
  image.alt = card.alt;
  image.loading = "lazy";
  frame.append(image);
  if (card.mark) frame.append(element("span", "mark", card.mark));
  button.append(frame);
  const numbers = element("span", "numbers");
  if (card.similarity !== undefined) numbers.append(element("span", "similarity", card.similarity));
  if (card.percentile !== undefined) {
    const pill = element("span", "pill");
    const dot = element("span", "dot");
    dot.style.background = card.color;
    pill.append(dot, element("span", "", card.percentile));
    numbers.append(pill);
  }
  button.append(numbers);
  if (card.label) {
    const line = element("span", "label");
    if (card.same !== null) line.append(element("span", card.same ? "yes" : "no", card.same ? "✓ " : "✗ "));
    line.append(document.createTextNode(card.label));
    button.append(line);
  }
  button.onclick = () => onClick(card.row);
  return button;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".gallery");
  root.style.setProperty("--card", data.width + "px");
  root.replaceChildren(...data.cards.map((card) => render(card, (row) => setTriggerValue("clicked", row))));
}
