// A page for React's tests: the DOM of happy-dom, but the `fetch` of the runtime, so that requests are real.
import { Window } from "happy-dom";

export const window = new Window({ url: "http://localhost:5173/" });
for (const name of ["document", "navigator", "localStorage", "location", "HTMLElement", "HTMLIFrameElement", "Node", "Event"]) {
  Object.defineProperty(globalThis, name, { value: window[name], configurable: true, writable: true });
}
globalThis.window = window;
globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const { createElement, act } = await import("react");
const { createRoot } = await import("react-dom/client");

/** Show *element* in a page of its own; returns what shows another one there, and what takes it away. */
export async function shown(element) {
  const place = window.document.body.appendChild(window.document.createElement("main"));
  const root = createRoot(place);
  const show = (next) => act(async () => root.render(next));
  await show(element);
  return {
    place,
    show,
    async end() {
      await act(async () => root.unmount());
      place.remove();
    },
  };
}

/** Wait, with a deadline, until *holds*; what React does meanwhile is applied. */
export async function until(holds, says = `${holds}`) {
  const ending = performance.now() + 5000;
  while (!holds()) {
    if (performance.now() > ending) throw new Error(`it did not come true: ${says}\n${window.document.body.innerHTML}`);
    await act(async () => new Promise((done) => setTimeout(done, 10)));
  }
}

export { act, createElement };
