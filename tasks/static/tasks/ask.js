/** Requests to this server. Every address is relative to the page, so that it also works below a prefix. */

const PATIENCE = 20_000;

let ahead = 0;

/** What went wrong, in a sentence for people; `status` is 0 where there was no answer. */
export class Problem extends Error {
  constructor(detail, status = 0, fields = {}) {
    super(detail);
    this.status = status;
    /** The messages for each field of a payload. */
    this.fields = fields;
  }
}

/** What the server's clock shows, in milliseconds: the one here may be wrong. */
export const now = () => Date.now() + ahead;

/** The JSON that the server answers. Throws Problem. */
export async function ask(address, { headers, ...options } = {}) {
  let answer, body;
  try {
    answer = await fetch(address, {
      headers: { Accept: "application/json", ...headers },
      signal: AbortSignal.timeout(PATIENCE),
      ...options,
    });
    body = await answer.json();
  } catch {
    if (!answer) throw new Problem("The server does not answer.");
    throw new Problem(`The server answers ${answer.status}, and nothing that this page can read.`, answer.status);
  }
  readClock(answer);
  if (!answer.ok) throw new Problem(body?.detail ?? `The server answers ${answer.status}.`, answer.status, body?.errors);
  return body;
}

function readClock(answer) {
  // The header has whole seconds, so that a smaller difference is none.
  const difference = Date.parse(answer.headers.get("Date")) + 500 - Date.now();
  ahead = Math.abs(difference) > 2000 ? difference : 0;
}
