/**
 * A client of Gate's WebSocket (docs/websocket.md). One file, without dependencies.
 *
 *     const client = connect({
 *       url: "https://im.example.com/",
 *       getToken: () => fetch("/my/token").then((answer) => answer.text()),
 *       platform: "Web",
 *       onState: (state) => console.log(state.name),
 *     });
 *     client.watch(["bob", "carol"], (presence) => console.log(presence));
 *     client.close();
 *
 * The Token goes out as the first message, never in an address, and is kept in memory only. The client comes back by itself,
 * with growing waits, and at once when the network is back or the machine wakes up. `kicked`, `banned`, `deactivated` and the
 * like are final.
 */
/** The version of Gate that this package belongs to. */
export const VERSION = "0.8.1";
/** An answer that is an error; `word` is the server's. */
export class GateError extends Error {
    word;
    retryAfterMs;
    constructor(word, message, retryAfterMs = null) {
        super(message);
        this.word = word;
        this.retryAfterMs = retryAfterMs;
        this.name = "GateError";
    }
}
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const ANSWER_WITHIN_MS = 10_000;
/** A server that is asked whether it is there, after a sign that the network changed. */
const PROBE_WITHIN_MS = 3_000;
/** More than 50 messages in a second would close the connection. */
const SEND_EVERY_MS = 25;
const MOST_USERS = 1_000;
const TICK_MS = 5_000;
/** A timer that is late by so much was stopped: the machine slept. */
const SLEPT_MS = 10_000;
const OPEN = 1;
const PROBE = "probe";
const TOKEN_WORDS = new Set(["token-malformed", "token-forged", "token-expired", "token-revoked", "app-unknown"]);
const PASSING_WORDS = new Set(["rate-limited", "unavailable", "stale"]);
/** What a close code says where the message before it did not arrive: the reason, and whether to come back. */
const ENDINGS = {
    1001: ["shutting-down", true],
    1002: ["malformed", false],
    1003: ["unsupported", false],
    1007: ["malformed", false],
    1009: ["too-long", false],
    1013: ["unavailable", true],
    4400: ["unauthorized", false],
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
/** Be online as the User of `getToken`'s Token, and stay so. */
export function connect(options) {
    return new GateClient(options);
}
export class GateClient {
    #options;
    #WebSocket;
    #state = { name: "connecting" };
    /** The WebSocket in use. What an earlier one still reports is not heeded. */
    #socket = null;
    #closing = null;
    #timer;
    #pings;
    #ticks;
    #probing;
    #renewing;
    #tickedAt = 0;
    #openedAt = 0;
    #onlineAt = 0;
    #isWatchEnded = false;
    /** The least of the next wait. */
    #waitMs = FIRST_WAIT_MS;
    #refused = null;
    #token = "";
    #asked = new Map();
    #watched = new Map();
    #lastId = 0;
    #sendAt = 0;
    #ended = new AbortController();
    constructor(options) {
        this.#options = options;
        const Socket = options.WebSocket ?? globalThis.WebSocket;
        if (!Socket)
            throw new TypeError("there is no WebSocket here: give one as the option WebSocket");
        this.#WebSocket = Socket;
        const { signal } = this.#ended;
        // In a page only; Node has neither.
        const page = globalThis;
        page.addEventListener?.("online", () => this.#wake(), { signal });
        page.addEventListener?.("offline", () => this.#probe(), { signal });
        page.document?.addEventListener("visibilitychange", () => page.document.hidden || this.#wake(), { signal });
        this.#tickedAt = Date.now();
        this.#ticks = setInterval(() => this.#tick(), TICK_MS);
        void this.#open();
    }
    get state() {
        return this.#state;
    }
    /** Leave, and stay away. */
    close() {
        this.#end({ reason: "closed", message: "closed by the app" });
    }
    /** Leave as one who logs out: webhooks distinguish that from a connection that ended. */
    async logout() {
        if (this.#onlineAt > 0)
            await this.ask({ type: "logout" }).catch(() => { });
        this.#end({ reason: "logout", message: "logged out" });
    }
    /** Send a message; its answer. Rejects with `GateError` if that is an error, and with an Error if none will come. */
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
                if (socket !== this.#socket || socket?.readyState !== OPEN)
                    return; // rejected with all others
                if (message.type !== "token")
                    this.#options.onMessage?.({ ...message, id }, true);
                socket.send(JSON.stringify({ ...message, id }));
            }, this.#sendAt - now);
        });
    }
    /**
     * Call back with the Presence of these Users: of all of them when online, again after each reconnect, then of each that changes.
     * Returns what ends it. At most 1,000 Users at the same time.
     */
    watch(users, callback) {
        const wanted = [...users];
        const keys = new Set([...this.#watched.keys(), ...wanted.map(keyOf)]);
        if (keys.size > MOST_USERS)
            throw new RangeError(`at most ${MOST_USERS} Users can be watched, ${keys.size} would be`);
        for (const user of wanted) {
            const watching = this.#watched.get(keyOf(user)) ?? { user, callbacks: new Set() };
            watching.callbacks.add(callback);
            this.#watched.set(keyOf(user), watching);
        }
        void this.#watchNow(wanted);
        return () => this.unwatch(wanted, callback);
    }
    /** End what `watch` began: of one callback, or of all. */
    unwatch(users, callback) {
        const gone = [];
        for (const user of users) {
            const watching = this.#watched.get(keyOf(user));
            if (watching === undefined)
                continue;
            if (callback === undefined)
                watching.callbacks.clear();
            else
                watching.callbacks.delete(callback);
            if (watching.callbacks.size === 0) {
                this.#watched.delete(keyOf(user));
                gone.push(user);
            }
        }
        if (gone.length > 0 && this.#onlineAt > 0)
            this.ask({ type: "unwatch", users: gone }).catch(() => { });
    }
    // Connecting
    async #open() {
        clearTimeout(this.#timer);
        this.#openedAt = performance.now();
        const attempt = {}; // stands for the socket until the Token is there
        this.#socket = attempt;
        this.#closing = null;
        this.#say({ name: "connecting" });
        let token;
        try {
            const wanted = this.#refused ? { why: "refused", refused: this.#refused.word } : { why: "connecting" };
            token = await this.#options.getToken(wanted);
        }
        catch (fault) {
            if (attempt === this.#socket)
                this.#comeBack("no-token", `getToken failed: ${String(fault)}`);
            return;
        }
        if (attempt !== this.#socket)
            return;
        if (this.#refused?.token === token) {
            this.#end({ reason: this.#refused.word, message: "getToken gave the Token that was refused" });
            return;
        }
        this.#token = token;
        this.#begin(token);
    }
    #begin(token) {
        const address = new URL("client/v1/connect", this.#options.url);
        address.protocol = address.protocol.replace("http", "ws");
        if (this.#options.platform)
            address.searchParams.set("platform", this.#options.platform);
        const socket = new this.#WebSocket(address.href, ["gate"]);
        this.#socket = socket;
        let isOpen = false;
        const ifCurrent = (heed) => (event) => {
            if (socket === this.#socket)
                heed(event);
        };
        socket.onopen = ifCurrent(() => {
            isOpen = true;
            socket.send(JSON.stringify({ type: "token", token }));
        });
        socket.onmessage = ifCurrent((event) => this.#heard(JSON.parse(String(event.data))));
        socket.onerror = () => { };
        socket.onclose = ifCurrent((event) => {
            if (isOpen)
                this.#closed(event.code);
            else
                this.#comeBack("unreachable", "nothing answers there");
        });
        // A browser may try for minutes.
        this.#timer = setTimeout(() => this.#comeBack("unreachable", "no answer in time"), ANSWER_WITHIN_MS);
    }
    #heard(message) {
        clearTimeout(this.#probing);
        this.#probing = undefined;
        if (message.id === PROBE)
            return;
        this.#options.onMessage?.(message, false);
        const asked = this.#asked.get(message.id);
        if (asked !== undefined) {
            this.#asked.delete(message.id);
            if (message.error === undefined)
                asked.resolve(message);
            else
                asked.reject(errorOf(message.error, message.message, message.retry_after_s));
        }
        else if (message.type === "welcome")
            this.#welcomed(message);
        else if (message.type === "closing")
            this.#closing = message;
        else if (message.type === "presence-changed")
            this.#show(message.presence);
        else if (message.type === "token-ending")
            void this.#renew();
        else if (message.type === "watch-ended") {
            this.#isWatchEnded = true;
            void this.#renew();
        }
    }
    #welcomed({ user, platform, session, ping_ms }) {
        clearTimeout(this.#timer);
        this.#onlineAt = performance.now();
        this.#refused = null;
        this.#isWatchEnded = false;
        this.#pings = setInterval(() => this.#probe(), ping_ms);
        this.#say({ name: "online", user, platform, session });
        void this.#watchNow();
    }
    /** A connection that was open is closed. */
    #closed(code) {
        const [reason, comesBack] = ENDINGS[code] ?? ["broken", true];
        const said = this.#closing ?? { reason, message: "the connection broke", reconnect: comesBack, reconnect_ms: null };
        if (TOKEN_WORDS.has(said.reason)) {
            // A newer Token is asked for at once; if that is refused too, with growing waits.
            const isFirst = this.#refused === null;
            this.#refused = { token: this.#token, word: said.reason };
            this.#comeBack(said.reason, said.message, isFirst ? 0 : null);
        }
        else if (said.reconnect && (said.reason !== "kicked" || this.#options.returnsAfterKick)) {
            this.#comeBack(said.reason, said.message, said.reconnect_ms);
        }
        else {
            this.#end(said);
        }
    }
    #comeBack(reason, message, adviceMs = null) {
        const waitMs = adviceMs ?? this.#drawn();
        this.#drop();
        this.#timer = setTimeout(() => void this.#open(), waitMs);
        this.#say({ name: "offline", reason, message, isFinal: false, reconnectMs: waitMs });
    }
    #end({ reason, message, until }) {
        if (this.#ended.signal.aborted)
            return;
        this.#ended.abort();
        clearInterval(this.#ticks);
        this.#drop();
        const state = { name: "offline", reason, message, isFinal: true, reconnectMs: null };
        this.#say(until === undefined ? state : { ...state, until });
    }
    /** The next wait: twice the one before, less up to a half of it; so those who lost a server come back one by one. */
    #drawn() {
        if (this.#onlineAt > 0 && performance.now() - this.#onlineAt > LONGEST_WAIT_MS)
            this.#waitMs = FIRST_WAIT_MS;
        const drawn = this.#waitMs * (1 + Math.random());
        this.#waitMs = Math.min(2 * this.#waitMs, LONGEST_WAIT_MS / 2);
        return drawn;
    }
    /** Drop the connection, its timers, and the promises that wait for an answer. */
    #drop() {
        for (const timer of [this.#timer, this.#probing, this.#renewing])
            clearTimeout(timer);
        clearInterval(this.#pings);
        this.#probing = undefined;
        const socket = this.#socket;
        this.#socket = null;
        this.#onlineAt = 0;
        socket?.close?.(1000);
        for (const { reject } of this.#asked.values())
            reject(new Error("the connection ended before the answer"));
        this.#asked.clear();
    }
    #say(state) {
        this.#state = state;
        this.#options.onState?.(state);
    }
    // Noticing what the network and the machine do
    #tick() {
        const sinceMs = Date.now() - this.#tickedAt;
        this.#tickedAt = Date.now();
        if (sinceMs > TICK_MS + SLEPT_MS)
            this.#wake();
    }
    /** The network is back, the machine woke up, or the page is looked at. */
    #wake() {
        if (this.#onlineAt > 0)
            this.#probe();
        else if (this.#state.name === "offline" && !this.#state.isFinal) {
            // At once, but never more often than the shortest wait.
            const waitMs = Math.max(0, this.#openedAt + FIRST_WAIT_MS - performance.now());
            clearTimeout(this.#timer);
            this.#timer = setTimeout(() => void this.#open(), waitMs);
        }
    }
    /** Is the server there? If it says nothing in time, the connection is broken. */
    #probe() {
        if (this.#onlineAt === 0 || this.#probing !== undefined || this.#socket?.readyState !== OPEN)
            return;
        this.#socket.send(JSON.stringify({ type: "ping", id: PROBE }));
        this.#probing = setTimeout(() => {
            this.#waitMs = FIRST_WAIT_MS;
            this.#comeBack("broken", "the server does not answer");
        }, PROBE_WITHIN_MS);
    }
    // The Token
    async #renew() {
        const socket = this.#socket;
        clearTimeout(this.#renewing);
        try {
            const token = await this.#options.getToken({ why: "ending" });
            if (socket !== this.#socket)
                return;
            await this.ask({ type: "token", token });
            this.#token = token;
            if (this.#isWatchEnded) {
                this.#isWatchEnded = false;
                void this.#watchNow();
            }
        }
        catch (fault) {
            if (socket !== this.#socket)
                return;
            this.#options.onProblem?.(fault instanceof Error ? fault : new Error(String(fault)));
            this.#renewing = setTimeout(() => void this.#renew(), TICK_MS * (1 + Math.random()));
        }
    }
    // Watching
    async #watchNow(users = [...this.#watched.values()].map(({ user }) => user)) {
        const socket = this.#socket;
        if (this.#onlineAt === 0 || users.length === 0)
            return; // the next welcome does it
        try {
            const { presence } = await this.ask({ type: "watch", users });
            this.#show(presence);
        }
        catch (fault) {
            if (socket !== this.#socket || !(fault instanceof GateError))
                return;
            this.#options.onProblem?.(fault);
            if (PASSING_WORDS.has(fault.word)) {
                setTimeout(() => socket === this.#socket && void this.#watchNow(users), fault.retryAfterMs ?? 1_000);
            }
        }
    }
    #show(presence) {
        const shown = new Map();
        for (const one of presence) {
            for (const callback of this.#watched.get(keyOf(one.user))?.callbacks ?? []) {
                shown.set(callback, [...(shown.get(callback) ?? []), one]);
            }
        }
        for (const [callback, some] of shown)
            callback(some);
    }
}
function keyOf(user) {
    return typeof user === "string" ? `s${user}` : `b${user.b64}`;
}
function errorOf(word, message = "", retryAfterS) {
    return new GateError(word, message, retryAfterS === undefined ? null : retryAfterS * 1_000);
}
