/** Elements of the page. Values of a task are only ever set as text. */

export function createElement(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

/** Set the text of the node. Unchanged text is not set again, so that a selection in it stays. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
