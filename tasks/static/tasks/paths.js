/** The paths of a kind's two endpoints, relative to the page. The server writes their prefixes into the page. */

const { createPrefix, pollPrefix } = document.body.dataset;

/** Return the path that creates a task of the kind. */
export const createPath = (kind) => `${createPrefix}${kind}`;

/** Return the path that polls the task, and cancels it. */
export const pollPath = ({ kind, id }) => `${pollPrefix}${kind}/${id}`;

/** Return the kind that the path creates a task of, or null for any other path. */
export function kindOfCreatePath(path) {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return name.startsWith(createPrefix) ? name.slice(createPrefix.length) : null;
}
