/** The page: what is typed goes to the client, what the client says is shown. Other people's text only ever as text. */

import { connect } from "./gate-client.js";

const MOST_LINES = 200;
const MOST_MEMBERS = 100;

const HEADINGS = {
  off: "Not connected",
  connecting: "Connecting …",
  online: "Online",
  waiting: "Not connected, trying again",
  ended: "Not online",
};

/** What to do, by the reason. */
const ADVICE = {
  banned: "The same Token will do then.",
  deactivated: "Nothing helps: this User is out of use.",
  "token-revoked": "Get a new Token from your server.",
  "token-expired": "Get a new Token from your server.",
  "token-malformed": "Copy the whole Token, or get a new one from your server.",
  "token-forged": "Get a new Token from your server.",
  "app-unknown": "The Token is of an App that is not served here.",
  "app-removed": "Nothing helps: the App is gone.",
  replaced: "Connect here to put the other device out.",
  "too-many-sessions": "Close one of its Sessions, then connect.",
};

const at = (id) => document.getElementById(id);
let countdown = 0;

/** The one of the last press of Connect. */
let client = null;

at("connecting").addEventListener("submit", (event) => {
  event.preventDefault();
  client?.close();
  const token = at("token").value.trim();
  client = connect({
    url: new URL("../", location.href),
    getToken: () => token,
    platform: at("platform").value,
    onState: showState,
    onMessage: showMessage,
    returnsAfterKick: true,
  });
});
at("disconnect").addEventListener("click", () => client?.close());
at("presence").addEventListener("submit", (event) => {
  event.preventDefault();
  const users = [...new Set(at("users").value.split(/\s+/).filter(Boolean))];
  if (users.length > 0) askPresence(users);
});
at("blocking").addEventListener("submit", (event) => {
  event.preventDefault();
  change("block", at("other").value.trim(), "blocked: its messages are refused from now on");
});
at("list").addEventListener("click", () => showBlacklist());
addEventListener("pagehide", () => client?.close());

/** What the page shows a state as: of the three of the client, "offline" is three for eyes. */
function shownAs({ name, isFinal, reason }) {
  if (name !== "offline") return name;
  if (!isFinal) return "waiting";
  return reason === "closed" ? "off" : "ended";
}

function showState(state) {
  const { reason } = state;
  const name = shownAs(state);
  at("state").dataset.state = name;
  at("state-title").textContent = name === "online" ? `Online as ${shown(state.user)}` : HEADINGS[name];
  at("state-text").textContent = {
    off: "",
    connecting: "",
    online: `On ${state.platform}, Session ${state.session}`,
    waiting: sentence(state),
    ended: `${sentence(state)}${untilOf(state)} ${ADVICE[reason] ?? ""}`,
  }[name];
  count(name === "waiting" ? state.reconnectMs : 0);
  at("asking").disabled = name !== "online";
  at("connect").disabled = name === "connecting" || name === "online";
  at("disconnect").disabled = name === "off" || name === "ended";
  if (name === "online") {
    at("presences").replaceChildren();
    at("members").replaceChildren();
    say("");
  }
}

function sentence({ message = "", reason }) {
  return `${message.slice(0, 1).toUpperCase()}${message.slice(1)} (${reason}).`;
}

function untilOf({ until }) {
  if (until === undefined) return "";
  return until === null ? " Without end." : ` Until ${new Date(until).toLocaleString()}.`;
}

/** Seconds to the next attempt, for eyes only: read out, it would never stop. */
function count(waitMs) {
  clearInterval(countdown);
  const end = performance.now() + waitMs;
  const show = () => {
    const seconds = Math.max(0, Math.ceil((end - performance.now()) / 1_000));
    at("countdown").textContent = waitMs > 0 ? `Connecting again in ${seconds} s` : "";
  };
  show();
  if (waitMs > 0) countdown = setInterval(show, 250);
}

async function askPresence(users) {
  const rows = at("presences");
  try {
    const { presence } = await client.ask({ type: "presence", users });
    rows.replaceChildren(...presence.map(presenceRow));
  } catch (fault) {
    rows.replaceChildren(element("li", "bad", fault.message));
  }
}

function presenceRow({ user, online, platforms, last_seen_ms: seenMs }) {
  const row = element("li", "", "");
  const seen = seenMs === null ? "never seen" : `last seen ${new Date(seenMs).toLocaleString()}`;
  const words = online ? `online on ${platforms.map((one) => one.platform).join(", ")}` : `offline, ${seen}`;
  row.append(element("strong", "", shown(user)), element("span", online ? "good" : "", words));
  return row;
}

async function change(type, user, words) {
  try {
    await client.ask({ type, users: [user] });
    await showBlacklist(`${shown(user)} is ${words}.`);
  } catch (fault) {
    say(fault.message, true);
  }
}

async function showBlacklist(words = "") {
  try {
    const { members, next } = await client.ask({ type: "blacklist", count: MOST_MEMBERS });
    at("members").replaceChildren(...members.map(memberRow));
    const size = members.length === 0 ? "Your Blacklist is empty." : next ? `These ${MOST_MEMBERS} are the newest.` : "";
    say(`${words} ${size}`.trim());
  } catch (fault) {
    say(fault.message, true);
  }
}

function memberRow({ user, until }) {
  const row = element("li", "", "");
  const button = element("button", "quiet small", "Unblock");
  button.type = "button";
  button.setAttribute("aria-label", `Unblock ${shown(user)}`);
  button.addEventListener("click", () => change("unblock", user, "off your Blacklist"));
  row.append(element("strong", "", shown(user)));
  if (until !== null) row.append(element("span", "", `until ${new Date(until).toLocaleString()}`));
  row.append(button);
  return row;
}

function say(words, isBad = false) {
  at("blacklist-text").textContent = words;
  at("blacklist-text").className = isBad ? "bad" : "";
}

/** The newest at the end; it scrolls along unless somebody scrolled back. */
function showMessage(message, isSent) {
  const log = at("log");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const line = element("li", "", "");
  const direction = element("b", "", isSent ? "→" : "←");
  direction.setAttribute("aria-label", isSent ? "sent" : "received");
  direction.setAttribute("role", "img");
  line.append(element("time", "", new Date().toLocaleTimeString()), direction, element("span", "", JSON.stringify(message)));
  log.append(line);
  while (log.children.length > MOST_LINES) log.firstChild.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

/** An id as text; one that is no UTF-8 as the base64 that it came in. */
function shown(user) {
  return typeof user === "string" ? user : `base64:${user.b64}`;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
