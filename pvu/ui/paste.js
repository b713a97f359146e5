// Takes a picture from the clipboard: Ctrl+V anywhere on the page, or the button. The server checks what arrives.
function say(root, text) {
  root.querySelector(".said").textContent = text;
}

function send(root, file, data, setTriggerValue) {
  if (file.size > data.limit) {
    say(root, `This picture has ${(file.size / 2 ** 20).toFixed(1)} MB; at most ${data.limit / 2 ** 20} MB can be pasted. Upload it as a file.`);
    return;
  }
  const reader = new FileReader();
  reader.onload = () => {
    say(root, "");
    setTriggerValue("pasted", { data: reader.result.slice(reader.result.indexOf(",") + 1) });
  };
  reader.onerror = () => say(root, "The clipboard's picture cannot be read.");
  reader.readAsDataURL(file);
}

async function readClipboard() {
  for (const item of await navigator.clipboard.read()) {
    const type = item.types.find((name) => name.startsWith("image/"));
    if (type) return item.getType(type);
  }
  return null;
}

const listeners = new WeakMap(); // root -> what listens to the page for it

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".paste");
  const button = root.querySelector("button");
  const onPaste = (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file) {
      event.preventDefault();
      send(root, file, data, setTriggerValue);
    } else if (event.composedPath().includes(root)) say(root, "There is no picture on the clipboard.");
  };
  button.onclick = async () => {
    if (!navigator.clipboard?.read) {
      say(root, "This browser does not let a button read the clipboard: press Ctrl+V (Cmd+V on a Mac).");
      return;
    }
    try {
      const file = await readClipboard();
      if (file) send(root, file, data, setTriggerValue);
      else say(root, "There is no picture on the clipboard.");
    } catch {
      say(root, "The browser does not allow this: press Ctrl+V (Cmd+V on a Mac).");
    }
  };
  // One at a time, however often this runs: a picture is pasted once.
  document.removeEventListener("paste", listeners.get(root));
  listeners.set(root, onPaste);
  document.addEventListener("paste", onPaste);
  return () => root.isConnected || document.removeEventListener("paste", listeners.get(root));
}
