// A new address on the same page is a step of the user only if it names another data set or another query; everything
// else replaces the entry that is there.
const PATIENCE = 500; // milliseconds

function kind(from, to) {
  if (from.pathname !== to.pathname) return "step";
  const before = from.searchParams, after = to.searchParams;
  if (!before.has("dataset")) return "same"; // a page that has just been opened says what it shows
  const changed = ["dataset", "query"].filter((name) => before.get(name) !== after.get(name));
  if (changed.some((name) => before.has(name) && !after.has(name))) return "leaving"; // for another page, it may be
  return changed.length ? "step" : "same";
}

export default function () {
  if (window.history.pvuTidy) return;
  window.history.pvuTidy = true;
  const push = window.history.pushState.bind(window.history);
  let waiting;
  window.history.pushState = (state, title, address) => {
    clearTimeout(waiting);
    const here = new URL(window.location.href);
    const what = address == null ? "step" : kind(here, new URL(address, here));
    if (what === "step") push(state, title, address);
    else if (what === "same") window.history.replaceState(state, title, address);
    else waiting = setTimeout(() => window.location.href === here.href && push(state, title, address), PATIENCE);
  };
}
