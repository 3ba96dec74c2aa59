/** Elements of the page. What comes from a task is only ever set as text. */

export function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

/** Text that stays as it is keeps what a reader has selected in it. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
