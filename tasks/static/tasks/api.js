/** Requests to this server. Every URL is relative to the page, so that the page also works below a path prefix. */

const TIMEOUT_MS = 20_000;
// The Date header counts whole seconds, so a smaller difference between the clocks means nothing.
const CLOCK_TOLERANCE_MS = 2000;

let clockOffset = 0;

/** A failed request. The message is a sentence for people; `status` is 0 if there was no response. */
export class ApiError extends Error {
  constructor(detail, status = 0, fields = {}) {
    super(detail);
    this.status = status;
    /** The messages for each field of a payload. */
    this.fields = fields;
  }
}

/** Return the time of the server's clock, in milliseconds. The clock of this machine may be wrong. */
export const serverTime = () => Date.now() + clockOffset;

/** Send a request and return the JSON of the response. Throws ApiError. */
export async function requestJson(url, { headers, ...options } = {}) {
  let response, body;
  try {
    response = await fetch(url, {
      headers: { Accept: "application/json", ...headers },
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...options,
    });
    body = await response.json();
  } catch {
    if (!response) throw new ApiError("The server does not respond.");
    const detail = `The server responded with status ${response.status} and a body that this page cannot read.`;
    throw new ApiError(detail, response.status);
  }
  readServerClock(response);
  if (!response.ok) {
    const detail = body?.detail ?? `The server responded with status ${response.status}.`;
    throw new ApiError(detail, response.status, body?.errors);
  }
  return body;
}

function readServerClock(response) {
  // The header is rounded down, by half a second on average.
  const difference = Date.parse(response.headers.get("Date")) + 500 - Date.now();
  clockOffset = Math.abs(difference) > CLOCK_TOLERANCE_MS ? difference : 0;
}
