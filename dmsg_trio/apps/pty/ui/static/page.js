// The page: a terminal, its line to the server, and a word on how things are when that is not plain.
//
// Keys and output are counted from the shell's beginning. Keys stay here until the server has them,
// output is acknowledged when it is shown; so when the WebSocket breaks, the next one goes on where
// it was. The shell's name is in this tab's memory alone, the key for the server in the storage of
// this origin, for other tabs.

import { FitAddon } from "./xterm/addon-fit.mjs";
import { Unicode11Addon } from "./xterm/addon-unicode11.mjs";
import { WebLinksAddon } from "./xterm/addon-web-links.mjs";
import { Terminal } from "./xterm/xterm.mjs";
import { Keys } from "./keys.js";

const SUBPROTOCOL = "dmsgpty.terminal.1";
const NORMAL = 1000;
const POLICY = 1008;
const NOT_ADMITTED = 4403;
const TAKEN_OVER = 4409;

const ACKNOWLEDGE_EVERY = 32 * 1024; // bytes
const ACKNOWLEDGE_WITHIN = 200; // milliseconds
const SILENCE = 35_000; // milliseconds after which a connection without a word is dead
const DELAYS = [100, 300, 1000, 2000, 3000]; // milliseconds between tries; the last is repeated
const MENTION_AFTER = 400; // milliseconds: what is over by then was nothing
const BLIND = 4096; // bytes that can be typed while nobody takes them
const STORE = "dmsgpty-ui key";

const THEME = {
  background: "#101418",
  foreground: "#d6dde4",
  cursor: "#7fd1ae",
  cursorAccent: "#101418",
  selectionBackground: "#35506b",
  black: "#1b2229",
  red: "#f08d8d",
  green: "#7fd1ae",
  yellow: "#e8c27a",
  blue: "#7fb4e6",
  magenta: "#c9a2e8",
  cyan: "#78cfd6",
  white: "#c4ccd4",
  brightBlack: "#66727d",
  brightRed: "#ffb0b0",
  brightGreen: "#a3e8ca",
  brightYellow: "#f8dca0",
  brightBlue: "#a9d0f5",
  brightMagenta: "#dfc3f5",
  brightCyan: "#a1e6eb",
  brightWhite: "#f4f7fa",
};

// ---- the terminal ----

const terminal = new Terminal({
  allowProposedApi: true, // for the widths of Unicode 11
  cursorBlink: true,
  fontFamily:
    'ui-monospace, "JetBrains Mono", "Cascadia Mono", "SF Mono", Menlo, "DejaVu Sans Mono", Consolas, monospace',
  fontSize: 14,
  lineHeight: 1.15,
  scrollback: 10_000,
  theme: THEME,
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.loadAddon(new Unicode11Addon());
terminal.unicode.activeVersion = "11";
terminal.loadAddon(new WebLinksAddon((_, url) => window.open(url, "_blank", "noopener,noreferrer")));
terminal.open(document.getElementById("terminal"));
fit.fit();
terminal.focus();
new ResizeObserver(() => fit.fit()).observe(document.getElementById("terminal"));
terminal.onResize(() => say({ type: "resize", ...size() }));
terminal.onData((data) => type(new TextEncoder().encode(data), data));
terminal.onBinary((data) => type(Uint8Array.from(data, (character) => character.charCodeAt(0)), data));
terminal.onTitleChange((title) => {
  document.title = [title.slice(0, 200), shortLabel()].filter(Boolean).join(" · ");
});
terminal.attachCustomKeyEventHandler(copyAndPaste);

function size() {
  return { rows: terminal.rows, columns: terminal.cols };
}

function copyAndPaste(event) {
  const key = event.key.toLowerCase();
  if (event.type !== "keydown" || event.metaKey || event.altKey || !event.ctrlKey) {
    return true;
  }
  if (key === "v" && event.shiftKey) {
    return false; // the browser pastes, the terminal takes it
  }
  if (key === "c" && terminal.hasSelection()) {
    event.preventDefault(); // Ctrl+C with something selected, and Ctrl+Shift+C, as in other terminals
    copy(terminal.getSelection());
    terminal.clearSelection();
    return false;
  }
  return !(key === "c" && event.shiftKey);
}

function copy(text) {
  if (navigator.clipboard) {
    navigator.clipboard.writeText(text).catch(() => {});
  } else {
    document.execCommand("copy"); // without HTTPS, at an address that is not this machine's
  }
}

// ---- what there is to say ----

const bar = document.getElementById("status");
const again = document.getElementById("again");
let mention = 0;

function show(kind, text, { button = "", after = 0 } = {}) {
  clearTimeout(mention);
  mention = setTimeout(() => {
    bar.dataset.kind = kind;
    document.getElementById("text").textContent = text;
    again.textContent = button;
    again.hidden = !button;
    bar.hidden = false;
  }, after);
}

function hide() {
  clearTimeout(mention);
  bar.hidden = true;
}

again.addEventListener("click", () => {
  startAgain();
  terminal.focus();
});

// ---- the line to the server ----

let phase = "connecting"; // to the server; "attached" to a shell; "over": Enter begins anew; "shut out"
let socket = null;
let shell = null; // its name
let label = ""; // whose it is
let tries = 0;
let received = 0; // bytes of output
let shown = 0;
let acknowledged = 0;
let acknowledging = 0;
let heard = 0; // when
let keys = new Keys();
let secret = takeToken() || stored();

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const mine = new WebSocket(`${scheme}//${location.host}/_ui/socket`, SUBPROTOCOL);
  mine.binaryType = "arraybuffer";
  mine.onopen = () => say({ type: "open", secret, shell, received, ...size() });
  mine.onmessage = ({ data }) => {
    heard = performance.now();
    if (mine === socket) {
      typeof data === "string" ? hear(JSON.parse(data)) : put(new Uint8Array(data));
    }
  };
  mine.onclose = ({ code, reason }) => mine === socket && lose(code, reason);
  heard = performance.now();
  socket = mine;
}

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify(message));
  }
}

function hear(message) {
  switch (message.type) {
    case "opened":
      ({ shell, label } = message);
      document.title = shortLabel();
      store(message.key);
      tries = 0;
      phase = "attached";
      keys.rewind(message.input);
      sendKeys();
      break;
    case "taken":
      keys.drop(message.count);
      sendKeys();
      break;
    case "status":
      judge(message);
      break;
  }
}

function judge({ state, text }) {
  switch (state) {
    case "connecting":
      return show("busy", `Connecting to ${label}…`, { after: MENTION_AFTER });
    case "connected":
      return hide();
    case "reconnecting":
      return show("busy", `Reconnecting: ${text}`, { after: MENTION_AFTER });
    case "ended":
      return finish("calm", sentence(text), "Enter: new shell");
    case "gone":
      return finish("bad", "dmsgpty-ui was restarted, or this tab was away for too long: its shell is gone.", "Enter: new shell");
    default:
      return finish("bad", sentence(text), "Enter: try again");
  }
}

function put(data) {
  received += data.length;
  terminal.write(data, () => {
    shown += data.length;
    if (shown - acknowledged >= ACKNOWLEDGE_EVERY) {
      acknowledge();
    } else {
      acknowledging ||= setTimeout(acknowledge, ACKNOWLEDGE_WITHIN);
    }
  });
}

function acknowledge() {
  clearTimeout(acknowledging);
  acknowledging = 0;
  if (phase === "attached" && shown > acknowledged) {
    acknowledged = shown;
    say({ type: "received", count: shown });
  }
}

function lose(code, reason) {
  socket = null;
  if (phase === "over") {
    return;
  }
  if (code === NOT_ADMITTED) {
    if (stored() && stored() !== secret) { // a link that was used up, in a browser that is known
      secret = stored();
      return connect();
    }
    phase = "shut out";
    store("");
    show("bad", "dmsgpty-ui does not know this browser, or no longer. Open the link that it printed when it started; a link works once, and SIGHUP makes it print another.");
  } else if (code === TAKEN_OVER || code === POLICY) {
    finish("bad", sentence(reason), "Enter: new shell");
  } else {
    phase = "connecting";
    show("busy", "dmsgpty-ui does not answer. Trying again…", { after: tries ? 0 : MENTION_AFTER });
    setTimeout(() => phase === "connecting" && !socket && connect(), DELAYS[Math.min(tries++, DELAYS.length - 1)]);
  }
}

function finish(kind, text, button) {
  phase = "over";
  socket?.close(NORMAL);
  shell = null;
  show(kind, text, { button });
}

function startAgain() {
  if (phase !== "over") {
    return;
  }
  const old = socket;
  socket = null;
  old?.close(NORMAL);
  // What the last shell left on the screen stays, the modes that it left the terminal in do not. To
  // leave a full screen that is not there would take the cursor to the top.
  const leave = terminal.buffer.active.type === "alternate" ? "\x1b[?1049l" : "";
  terminal.write(leave + "\x1b[!p\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m\r\n", () => {
    received = shown = acknowledged = tries = 0;
    keys = new Keys();
    phase = "connecting";
    hide();
    connect();
  });
}

// A key is recognised by its beginning.
function shortLabel() {
  return label.replace(/^([0-9a-f]{8})[0-9a-f]{58}/, "$1…");
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

setInterval(() => {
  if (socket && performance.now() - heard > SILENCE) {
    const old = socket;
    lose(0, ""); // its own end may take minutes to come
    old.close();
  }
}, 5000);

// ---- keys ----

function type(bytes, data) {
  if (phase === "over") {
    return data === "\r" ? startAgain() : undefined;
  }
  if (phase === "shut out" || (phase !== "attached" && keys.size > BLIND)) {
    return undefined;
  }
  keys.add(bytes);
  return sendKeys();
}

function sendKeys() {
  if (phase === "attached" && socket?.readyState === WebSocket.OPEN) {
    keys.due().forEach((piece) => socket.send(piece));
  }
}

// ---- tokens, tabs ----

function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    history.replaceState(null, "", location.pathname + location.search);
  }
  return token;
}

function stored() {
  try {
    return localStorage.getItem(STORE) || "";
  } catch {
    return ""; // storage is forbidden: this tab has to do
  }
}

function store(key) {
  secret = key;
  try {
    key ? localStorage.setItem(STORE, key) : localStorage.removeItem(STORE);
  } catch {
    // as above
  }
}

// A link opened over a page that is shut out changes only what is behind the #.
window.addEventListener("hashchange", () => {
  const token = takeToken();
  if (token && phase === "shut out") {
    secret = token;
    phase = "over";
    startAgain();
  }
});

// Ctrl+W deletes a word in a shell, and closes tabs in a browser, which pages cannot prevent: it asks.
window.addEventListener("beforeunload", (event) => phase === "attached" && event.preventDefault());

// Whoever closes a tab is done with its shell; a network that is gone says nothing of the kind.
window.addEventListener("pagehide", () => {
  phase = "over";
  socket?.close(NORMAL);
});
window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

show("busy", "Connecting…", { after: MENTION_AFTER });
connect();
