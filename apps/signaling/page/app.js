// A page to try the service by hand. It keeps nothing: the session is a cookie that no script reads.
const $ = (id) => document.getElementById(id);
const state = { me: null, room: null, people: new Map(), socket: null, position: null, recording: null, tries: 0 };

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  const value = text ? JSON.parse(text) : null;
  if (!response.ok) throw Object.assign(new Error(value?.detail ?? response.statusText), { code: value?.code });
  return value;
}

function problem(text) {
  $("problem").textContent = text ?? "";
  $("problem").hidden = !text;
}

// What a form or a button does; what goes wrong is told.
function does(work) {
  return async (event) => {
    event.preventDefault();
    problem();
    try {
      await work(event.target);
    } catch (error) {
      problem(error.message);
    }
  };
}

const fields = (form) => Object.fromEntries(new FormData(form));
const path = (rest = "") => `/rooms/${encodeURIComponent(state.room.code)}${rest}`;

function avatar(element, id, name) {
  const letters = name.trim().split(/\s+/).map((word) => [...word][0] ?? "").slice(0, 2).join("");
  element.textContent = letters.toUpperCase();
  const sum = [...id].reduce((sum, letter) => sum + letter.charCodeAt(0), 0);
  element.className = `avatar hue${sum % 6}`;
}

function show(section) {
  for (const id of ["door", "lobby", "meeting"]) $(id).hidden = id !== section;
  $("who").hidden = !state.me;
  if (state.me) {
    $("who-name").textContent = state.me.display_name + (state.me.is_guest ? " (guest)" : "");
    avatar($("who-avatar"), state.me.id, state.me.display_name);
  }
  document.body.dataset.section = section;
}

async function lobby() {
  state.room = null;
  if (!state.me) return show("door");
  show("lobby");
  $("create").hidden = $("rooms-card").hidden = state.me.is_guest;
  if (state.me.is_guest) return;
  const rooms = await call("GET", "/rooms?size=10");
  $("rooms").replaceChildren(...rooms.items.map((room) => {
    const item = document.createElement("li");
    const title = document.createElement("span");
    const join = document.createElement("button");
    title.textContent = `${room.title} (${room.status.toLowerCase()})`;
    join.textContent = "Join";
    join.className = "quiet";
    join.disabled = room.status !== "CREATED" && room.status !== "LIVE";
    join.addEventListener("click", does(() => enter(room.code)));
    item.append(title, join);
    return item;
  }));
}

async function enter(code) {
  try {
    await call("POST", `/rooms/${encodeURIComponent(code)}/join`);
  } catch (error) {
    if (error.code !== "already_present") throw error;
  }
  await meeting(code);
}

async function meeting(code) {
  state.room = await call("GET", `/rooms/${encodeURIComponent(code)}`);
  state.people.clear();
  state.recording = state.position = null;
  $("events").replaceChildren();
  show("meeting");
  paint();
  listen();
  const { items } = await call("GET", path("/recordings?size=1"));
  if (["STARTED", "IN_PROGRESS"].includes(items[0]?.status)) state.recording ??= items[0].id;
  paint();
}

function listen() {
  const after = state.position ? `?after=${encodeURIComponent(state.position)}` : "";
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}${path(`/events${after}`)}`);
  state.socket = socket;
  socket.addEventListener("message", (message) => {
    if (socket === state.socket) hear(JSON.parse(message.data));
  });
  socket.addEventListener("close", (event) => {
    if (socket === state.socket) closed(event.code);
  });
}

// Why the seat is over, by the close code.
const reasons = {
  4001: "You were kicked out of the meeting.",
  4002: "You are banned from this room.",
  4003: "The meeting is over.",
  4004: null,
  4005: "Your seat was given up, because the connection was lost. Join again.",
  4006: "You are signed out.",
};

function closed(code) {
  state.socket = null;
  if (!state.room) return;
  if (!(code in reasons)) {
    // The service stops, or the connection was lost: it goes on behind the last position, here or at another process.
    if (state.tries++ < 8) return setTimeout(listen, 250 * 2 ** Math.min(state.tries, 5));
    problem("The connection is lost.");
  } else if (reasons[code]) {
    problem(reasons[code] + (state.said ? ` "${state.said}"` : ""));
  }
  state.said = null;
  if (code === 4006) state.me = null;
  lobby().catch((error) => problem(error.message));
}

function hear(message) {
  if (message.type === "hello") {
    state.tries = 0;
    state.people = new Map(message.participants.map((one) => [one.stay, { ...one.person, role: one.role }]));
    state.position ??= message.position;
  } else if (message.type === "closing") {
    state.said = message.message;
  } else {
    state.position = message.position;
    happened(message);
  }
  paint();
}

const lower = (role) => role.toLowerCase().replace("_", "-");

function happened({ action, at, actor, target, details }) {
  const who = target ?? actor;
  const name = who?.display_name ?? "Somebody";
  const by = target && actor ? ` by ${actor.display_name}` : "";
  const person = [...state.people.values()].find((one) => one.id === who?.id);
  const said = {
    ROOM_STARTED: () => "The meeting began",
    ROOM_ENDED: () => "The meeting ended",
    USER_JOINED: () => {
      if (!state.people.has(details.stay)) state.people.set(details.stay, { id: who.id, display_name: name, role: details.role, is_guest: who.is_guest });
      return `${name} came in`;
    },
    USER_LEFT: () => {
      state.people.delete(details.stay);
      return details.reason === "left" ? `${name} left` : `${name} is gone (${details.reason.replace("_", " ")})`;
    },
    USER_KICKED: () => {
      state.people.delete(details.stay);
      return `${name} was kicked${by}`;
    },
    USER_BANNED: () => {
      state.people.delete(details.stay);
      return `${name} was banned${by}`;
    },
    RECORDING_STARTED: () => {
      state.recording = details.recording;
      return "A recording began";
    },
    RECORDING_STOPPED: () => {
      state.recording = null;
      return "The recording stopped";
    },
    ROOM_UPDATED: () => {
      call("GET", path()).then((room) => { state.room = room; paint(); }, () => {});
      return "The room's settings changed";
    },
  }[action];
  let text = said?.();
  if (action.startsWith("ROLE_")) {
    if (person) person.role = details.to;
    const former = [...state.people.values()].find((one) => one.id === details.former_host);
    if (former) former.role = "CO_HOST";
    text = `${name} is ${lower(details.to)} now`;
  }
  const line = document.createElement("li");
  const time = document.createElement("time");
  const what = document.createElement("span");
  time.textContent = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  what.textContent = text ?? action;
  line.append(time, what);
  $("events").prepend(line);
}

function paint() {
  if (!state.room) return;
  const mine = [...state.people.values()].find((one) => one.id === state.me?.id);
  const owns = state.room.owner === state.me?.id;
  const leads = owns || mine?.role === "HOST";
  $("title").textContent = state.room.title;
  $("code").textContent = state.room.code;
  $("status").textContent = state.recording ? "recording" : "live";
  $("status").className = state.recording ? "badge recording" : "badge live";
  $("door-note").textContent = state.room.require_auth ? "account required" : "open to guests";
  $("end").hidden = !leads;
  $("record").hidden = !leads;
  $("record").textContent = state.recording ? "Stop recording" : "Record";
  $("people").replaceChildren(...[...state.people.values()].map((person) => {
    const tile = $("tile").content.firstElementChild.cloneNode(true);
    const part = (name) => tile.querySelector(`.${name}`);
    const other = person.id !== state.me?.id && person.id !== state.room.owner;
    tile.dataset.user = person.id;
    tile.classList.toggle("me", person.id === state.me?.id);
    avatar(part("avatar"), person.id, person.display_name);
    part("name").textContent = person.display_name;
    part("role").textContent = lower(person.role) + (person.is_guest ? ", guest" : "");
    part("kick").hidden = !(other && person.role !== "HOST" && (leads || (mine?.role === "CO_HOST" && person.role === "PARTICIPANT")));
    part("kick").addEventListener("click", does(() => call("POST", path(`/participants/${person.id}/kick`), { reason: "asked to leave" })));
    const up = person.role === "PARTICIPANT";
    part("promote").hidden = !(leads && other && person.role !== "HOST");
    part("promote").textContent = up ? "Make co-host" : "Make participant";
    part("promote").addEventListener("click", does(() => call("POST", path(`/participants/${person.id}/${up ? "promote" : "demote"}`))));
    return tile;
  }));
}

$("login").addEventListener("submit", does(async (form) => {
  state.me = (await call("POST", "/sessions", fields(form))).user;
  form.reset();
  await lobby();
}));
$("register").addEventListener("submit", does(async (form) => {
  const account = fields(form);
  await call("POST", "/accounts", account);
  state.me = (await call("POST", "/sessions", { login: account.username, password: account.password })).user;
  form.reset();
  await lobby();
}));
$("visit").addEventListener("submit", does(async (form) => {
  const { code, display_name } = fields(form);
  state.me = (await call("POST", `/rooms/${encodeURIComponent(code)}/guests`, { display_name })).user;
  form.reset();
  await meeting(code);
}));
$("create").addEventListener("submit", does(async (form) => {
  const { title, open } = fields(form);
  const room = await call("POST", "/rooms", { title, require_auth: !open });
  form.reset();
  await enter(room.code);
}));
$("join").addEventListener("submit", does(async (form) => {
  await enter(fields(form).code);
  form.reset();
}));
$("logout").addEventListener("click", does(async () => {
  await call("DELETE", "/sessions/current");
  state.socket?.close();
  state.me = state.socket = null;
  await lobby();
}));
$("leave").addEventListener("click", does(() => call("POST", path("/leave"))));
$("end").addEventListener("click", does(() => call("POST", path("/end"))));
$("record").addEventListener("click", does(() =>
  state.recording ? call("POST", `/recordings/${state.recording}/stop`) : call("POST", path("/recordings"), {})));

try {
  state.me = await call("GET", "/me");
} catch {
  // Not signed in.
}
const code = new URLSearchParams(location.search).get("room");
if (code) for (const form of ["visit", "join"]) $(form).elements.code.value = code;
await lobby();
