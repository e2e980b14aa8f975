// Written by scripts/client_types.py from the declarations of the server: change those.

/** A User's id: text or, where it is not UTF-8, its bytes in base64. */
export type UserId = string | { b64: string };

/** Why the server closes a connection. */
export type ClosingReason =
  | "shutting-down"
  | "unsupported"
  | "token-revoked"
  | "token-expired"
  | "banned"
  | "app-removed"
  | "silent"
  | "replaced"
  | "deactivated"
  | "kicked"
  | "lost"
  | "logout"
  | "flooding"
  | "invalid"
  | "unauthorized"
  | "token-malformed"
  | "token-forged"
  | "app-unknown"
  | "too-many-sessions"
  | "rate-limited"
  | "unavailable"
  | "stale";

/** Since when (Unix ms) the User is online there, and with how many Sessions. */
export interface PlatformOnline {
  platform: string;
  since_ms: number;
  sessions: number;
}

/** Moments are Unix ms. `last_seen_ms` is null while online; both are null for never. */
export interface UserPresence {
  user: UserId;
  online: boolean;
  platforms: PlatformOnline[];
  last_seen_ms: number | null;
  last_active_ms: number | null;
}

/** One entry. `until` null: for good. */
export interface Listed {
  user: UserId;
  until: number | null;
}

/** Newest first; `next` is the token of the following page. */
export interface MembersPage {
  members: Listed[];
  next: string | null;
}

/** Whether one User is on the caller's Blacklist. `until` null: for good, or not at all. */
export interface ListedOrNot {
  user: UserId;
  listed: boolean;
  until: number | null;
}

/** A write: its Revision, and how far it got. */
export interface Effect {
  revision: string;
  applied: "all" | "node" | "pending";
  pending_reason?: string;
}

/** Is the server there? */
export interface PingRequest {
  type: "ping";
}

/** The User is at the device. */
export interface ActiveRequest {
  type: "active";
}

/** The User leaves for good, and is not only out of reach: webhooks tell these two apart. */
export interface LogoutRequest {
  type: "logout";
}

/** A newer Token of the same User. */
export interface TokenRequest {
  type: "token";
  token: string;
}

/** Who of these is online? */
export interface PresenceRequest {
  type: "presence";
  users: UserId[];
}

/** Who of these is online, now and whenever that changes? */
export interface WatchRequest {
  type: "watch";
  users: UserId[];
}

/** Send no more changes of these, or of any. */
export interface UnwatchRequest {
  type: "unwatch";
  users?: UserId[] | null;
}

/** Is this User on my Blacklist; or who is? */
export interface BlacklistRequest {
  type: "blacklist";
  user?: UserId | null;
  count?: number;
  cursor?: string | null;
}

/** Put these on my Blacklist. */
export interface BlockRequest {
  type: "block";
  users: UserId[];
  until?: number | null;
  seconds?: number | null;
}

/** Take these off it. */
export interface UnblockRequest {
  type: "unblock";
  users: UserId[];
}

export type Request =
  | PingRequest
  | ActiveRequest
  | LogoutRequest
  | TokenRequest
  | PresenceRequest
  | WatchRequest
  | UnwatchRequest
  | BlacklistRequest
  | BlockRequest
  | UnblockRequest;

/** What answers a request of this type, if no error does. */
export interface Answers {
  ping: { type: "pong" };
  active: { type: "active" };
  logout: { type: "logout" };
  token: { type: "token"; expires: number | null };
  presence: { type: "presence"; presence: UserPresence[] };
  watch: { type: "watch"; presence: UserPresence[] };
  unwatch: { type: "unwatch"; watching: number };
  blacklist: { type: "blacklist" } & (MembersPage | ListedOrNot);
  block: { type: "block" } & Effect;
  unblock: { type: "unblock" } & Effect;
}

export type Answer<T extends Request["type"]> = Answers[T];

/** The first message: the User is online. `token_expires` (Unix ms) is absent if the Token never expires. */
export interface Welcome {
  type: "welcome";
  session: string;
  user: UserId;
  platform: string;
  ping_ms: number;
  token_expires?: number;
}

/** The Token expires in `in_ms`, at `expires` (Unix ms): send a newer one. */
export interface TokenEnding {
  type: "token-ending";
  expires: number;
  in_ms: number;
}

/** The Presence of watched Users as it is now, those that changed. After the feed was lost: of all of them. */
export interface PresenceChanged {
  type: "presence-changed";
  presence: UserPresence[];
}

/** Nothing is watched any more, since the Token is not accepted now. Send a newer one, and watch again. */
export interface WatchEnded {
  type: "watch-ended";
  error: string;
  message: string;
}

/** The last message. `until` (Unix ms, null: without end) is that of a Ban. */
export interface Closing {
  type: "closing";
  reason: ClosingReason;
  code: number;
  message: string;
  reconnect: boolean;
  reconnect_ms: number | null;
  until?: number | null;
}

export type Notice = Welcome | TokenEnding | PresenceChanged | WatchEnded | Closing;
