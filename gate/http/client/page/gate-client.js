/**
 * A client of Gate's WebSocket, as docs/websocket.md describes it, for web apps to copy. It needs nothing else.
 *
 *     const client = new GateClient("https://im.example.com/", { onState: show, onMessage: log });
 *     client.connect(token, "Web");
 *     const { presence } = await client.ask({ type: "presence", users: ["bob", "carol"] });
 *     client.close();
 *
 * onState is given one of
 *
 *     { name: "off" }                                     not connected, and not asked to be
 *     { name: "connecting" }
 *     { name: "online", user, platform, session }
 *     { name: "waiting", reason, message, waitMs }        connects again by itself in so long
 *     { name: "ended", reason, message, until }           will not, since the same Token would be refused, or should not
 *
 * `reason` is a word of that page: of a `closing` message, of a refusal, or "broken", "unreachable", "refused". `until` is in Unix
 * milliseconds, null for without end, undefined where it does not apply. onMessage is given what comes, (message), and what is
 * sent, (message, true), but for the pings that watch the connection.
 *
 * The Token is held in memory only. It is part of the WebSocket's address, since browsers let a page set no header there.
 */

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const ANSWER_WITHIN_MS = 10_000;
/** More than 50 messages in a second would close the connection. */
const SEND_EVERY_MS = 25;
/** Refused as often in a row although the Token is good, it is no passing trouble: the User may have too many Sessions. */
const MOST_REFUSALS = 5;
const WATCH = "watch";

/** What a close code says where the message before it did not arrive: the reason, and whether to come back. */
const ENDINGS = {
  1001: ["shutting-down", true],
  1002: ["malformed", false],
  1003: ["unsupported", false],
  1007: ["malformed", false],
  1009: ["too-long", false],
  4401: ["token-revoked", false],
  4402: ["token-expired", false],
  4403: ["banned", false],
  4404: ["app-removed", false],
  4408: ["silent", true],
  4409: ["replaced", false],
  4410: ["deactivated", false],
  4411: ["kicked", true],
  4412: ["lost", true],
  4413: ["logout", false],
  4429: ["flooding", true],
};

export class GateClient {
  #base;
  #onState;
  #onMessage;
  #token = "";
  #platform = "";
  /** The WebSocket in use. What an earlier one still reports is not heeded. */
  #socket = null;
  #closing = null;
  #timer = 0;
  #watch = 0;
  #isHeard = false;
  #waitMs = FIRST_WAIT_MS;
  #onlineAt = 0;
  #refusals = 0;
  #asked = new Map();
  #lastId = 0;
  #sendAt = 0;

  /** `base`: where Gate's HTTP is, up to and with the slash before `client/`. */
  constructor(base, { onState = () => {}, onMessage = () => {} } = {}) {
    this.#base = new URL(base);
    this.#onState = onState;
    this.#onMessage = onMessage;
  }

  /** Be online as the Token's User, and stay so. Another connection of this client is closed first. */
  connect(token, platform) {
    this.#drop();
    this.#token = token;
    this.#platform = platform;
    this.#waitMs = FIRST_WAIT_MS;
    this.#refusals = 0;
    this.#open();
  }

  /** Leave, and stay away. */
  close() {
    this.#drop();
    this.#token = "";
    this.#onState({ name: "off" });
  }

  /** Send a message; its answer. Rejects with an Error where that is an error (its `word` says which), or none will come. */
  ask(message) {
    return new Promise((resolve, reject) => {
      if (this.#onlineAt === 0) {
        reject(new Error("not online"));
        return;
      }
      const id = ++this.#lastId;
      this.#asked.set(id, { resolve, reject });
      const now = performance.now();
      this.#sendAt = Math.max(now, this.#sendAt + SEND_EVERY_MS);
      const socket = this.#socket;
      setTimeout(() => {
        if (socket !== this.#socket || socket.readyState !== WebSocket.OPEN) return; // rejected with all others
        this.#onMessage({ ...message, id }, true);
        socket.send(JSON.stringify({ ...message, id }));
      }, this.#sendAt - now);
    });
  }

  #open() {
    this.#onState({ name: "connecting" });
    const address = new URL("client/v1/connect", this.#base);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.searchParams.set("token", this.#token);
    if (this.#platform) address.searchParams.set("platform", this.#platform);
    const socket = new WebSocket(address);
    this.#socket = socket;
    this.#closing = null;
    let isOpen = false;
    const ifCurrent = (heed) => (event) => {
      if (socket === this.#socket) heed(event);
    };
    socket.onopen = ifCurrent(() => {
      isOpen = true;
      clearTimeout(this.#timer);
    });
    socket.onmessage = ifCurrent((event) => this.#heard(JSON.parse(event.data)));
    socket.onclose = ifCurrent((event) => (isOpen ? this.#ended(event.code) : this.#refused(socket)));
    // A browser may try for minutes.
    this.#timer = setTimeout(() => this.#refused(socket), ANSWER_WITHIN_MS);
  }

  #heard(message) {
    this.#isHeard = true;
    if (message.id === WATCH) return;
    this.#onMessage(message, false);
    if (message.type === "welcome") {
      this.#onlineAt = performance.now();
      this.#refusals = 0;
      this.#watch = setInterval(() => this.#look(), message.ping_ms);
      const { user, platform, session } = message;
      this.#onState({ name: "online", user, platform, session });
    } else if (message.type === "closing") {
      this.#closing = message;
    } else if (this.#asked.has(message.id)) {
      const { resolve, reject } = this.#asked.get(message.id);
      this.#asked.delete(message.id);
      if (message.type !== "error") resolve(message);
      else reject(Object.assign(new Error(message.message), { word: message.error }));
    }
  }

  /** From time to time: a server that has sent nothing since the last ping is gone. */
  #look() {
    if (!this.#isHeard) {
      this.#comeBack("broken", "the server does not answer");
      return;
    }
    this.#isHeard = false;
    this.#socket.send(JSON.stringify({ type: "ping", id: WATCH }));
  }

  /** A connection that was open is closed. */
  #ended(code) {
    const [reason, comesBack] = ENDINGS[code] ?? ["broken", true];
    const said = this.#closing ?? { reason, message: "the connection broke", reconnect: comesBack };
    if (said.reconnect) this.#comeBack(said.reason, said.message, said.reconnect_ms ?? null);
    else this.#stop(said);
  }

  /** It never opened, and a browser does not say why; an ordinary call with the same Token gets the reason. */
  async #refused(socket) {
    clearTimeout(this.#timer);
    let refusal;
    try {
      const answer = await fetch(new URL("client/v1/blacklist?count=1", this.#base), {
        headers: { Authorization: `Bearer ${this.#token}` },
        credentials: "omit",
        cache: "no-store",
        signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
      });
      const retryAfterMs = 1_000 * (Number(answer.headers.get("Retry-After")) || 0);
      refusal = { status: answer.status, retryAfterMs, ...(answer.ok ? {} : await answer.json()) };
    } catch {
      refusal = { status: 0 };
    }
    if (socket !== this.#socket) return; // meanwhile somebody asked for something else
    this.#weigh(refusal);
  }

  #weigh({ status, error, message, until, retryAfterMs }) {
    if (status === 0) {
      this.#comeBack("unreachable", "nothing answers there");
    } else if (status === 429 || status >= 500) {
      this.#comeBack(error, message, retryAfterMs + this.#drawn());
    } else if (status >= 400) {
      this.#stop({ reason: error, message, until });
    } else if (++this.#refusals < MOST_REFUSALS) {
      this.#comeBack("refused", "the Token is good, but the connection was refused");
    } else {
      this.#stop({ reason: "refused", message: "the Token is good, but every connection was refused" });
    }
  }

  #comeBack(reason, message, adviceMs = null) {
    const waitMs = adviceMs ?? this.#drawn();
    this.#drop();
    this.#timer = setTimeout(() => this.#open(), waitMs);
    this.#onState({ name: "waiting", reason, message, waitMs });
  }

  #stop({ reason, message, until }) {
    this.#drop();
    this.#onState({ name: "ended", reason, message, until });
  }

  /** The next wait: at least half a second, at most twice the one before; so those who lost a server come back one by one. */
  #drawn() {
    const isSteady = this.#onlineAt > 0 && performance.now() - this.#onlineAt > LONGEST_WAIT_MS;
    const before = isSteady ? FIRST_WAIT_MS : this.#waitMs;
    const drawn = FIRST_WAIT_MS + (2 * before - FIRST_WAIT_MS) * Math.random();
    this.#waitMs = Math.min(drawn, LONGEST_WAIT_MS);
    return this.#waitMs;
  }

  /** Drop the connection, the timer of the next one, and the promises that wait for an answer. */
  #drop() {
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    const socket = this.#socket;
    this.#socket = null;
    this.#onlineAt = 0;
    this.#isHeard = false;
    socket?.close(1000);
    for (const { reject } of this.#asked.values()) reject(new Error("the connection ended before the answer"));
    this.#asked.clear();
  }
}
