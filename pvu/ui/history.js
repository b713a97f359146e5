// A new address on the same page is a step of the user only if it names another data set or another query; everything
// else replaces the entry that is there.
function isStep(from, to) {
  if (from.pathname !== to.pathname) return true;
  const before = from.searchParams, after = to.searchParams;
  if (!before.has("dataset")) return false; // a page that has just been opened says what it shows
  return ["dataset", "query"].some((name) => before.get(name) !== after.get(name));
}

export default function () {
  if (window.history.pvuTidy) return;
  window.history.pvuTidy = true;
  const push = window.history.pushState.bind(window.history);
  window.history.pushState = (state, title, address) => {
    const step = address == null || isStep(new URL(window.location.href), new URL(address, window.location.href));
    if (step) push(state, title, address);
    else window.history.replaceState(state, title, address);
  };
}
