// A subscriber in Node.js: keeps the room keys that are sent to an account, fetches those that it missed, and opens
// messages sealed with them. It needs only a NATS client and WebCrypto, and no code of the worker.
//
//     npm ci
//     NATS_URL=nats://localhost:4222 SITE_ID=site-local node subscriber.mjs alice
//
// With NATS_URL=ws://… it does the same over WebSocket, as a browser would.
//
// Other services send the messages. This example expects them on `example.room.{roomId}.message`, sealed with
// AES-256-GCM: {"version", "nonce", "ciphertext"}, the tag at the end, no additional data.

import { wsconnect } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { setTimeout } from "node:timers/promises";
import { WebSocket } from "ws";

const site = process.env.SITE_ID ?? "site-local";
const url = process.env.NATS_URL ?? "nats://localhost:4222";
const account = process.argv[2];

// The keys of each room by version. A key is never replaced, and versions may have gaps.
const rooms = new Map();
const bytes = (base64) => Buffer.from(base64, "base64");

async function keep({ roomId, version, privateKey }, how) {
  if (!rooms.has(roomId)) rooms.set(roomId, new Map());
  const versions = rooms.get(roomId);
  if (versions.has(version)) return; // a key may arrive several times, in any order
  versions.set(version, await crypto.subtle.importKey("raw", bytes(privateKey), "AES-GCM", false, ["decrypt"]));
  console.log(`${how} key ${version} of room ${roomId}`); // never print the key itself
}

// Send a request until there is a reply: the worker may be down. The random pause keeps clients from retrying together.
async function request(subject, body) {
  for (;;) {
    try {
      const reply = (await nc.request(subject, JSON.stringify(body), { timeout: 5_000 })).json();
      if (reply.code !== "unavailable" && reply.code !== "too_many_requests") return reply;
    } catch (error) {
      if (nc.isClosed()) throw error;
    }
    await setTimeout(100 + 900 * Math.random());
  }
}

// Fetch every current key that this client lacks.
async function catchUp() {
  const have = Object.fromEntries([...rooms].map(([roomId, versions]) => [roomId, Math.max(...versions.keys())]));
  let cursor;
  do {
    const page = await request(`chat.user.${account}.request.rooms.${site}.keys.sync`, { have, cursor });
    if (page.error) throw new Error(page.error);
    for (const key of page.results) await keep(key, "fetched");
    cursor = page.cursor;
  } while (cursor);
  console.log(`up to date as ${account}`);
}

// Open a message with the key of the version that it names.
async function read(roomId, { version, nonce, ciphertext }) {
  if (!rooms.get(roomId)?.has(version)) {
    const reply = await request(`chat.user.${account}.request.room.${roomId}.${site}.key.get`, { version });
    if (reply.error) return `no key ${version}: ${reply.reason}`;
    await keep(reply, "fetched");
  }
  const key = rooms.get(roomId).get(version);
  try {
    const text = await crypto.subtle.decrypt({ name: "AES-GCM", iv: bytes(nonce) }, key, bytes(ciphertext));
    return new TextDecoder().decode(text);
  } catch {
    return `a message that key ${version} does not open`;
  }
}

async function receiveKeys(subscription) {
  for await (const message of subscription) await keep(message.json(), "received");
}

async function readMessages(subscription) {
  for await (const message of subscription) {
    const roomId = message.subject.split(".")[2];
    let text;
    try {
      text = await read(roomId, message.json());
    } catch {
      text = "not a sealed message"; // any account may have published it
    }
    console.log(`room ${roomId}: ${text}`);
  }
}

// NATS does not store what was sent while the connection was lost, so fetch it.
async function catchUpAfterReconnects() {
  for await (const status of nc.status()) {
    if (status.type === "reconnect") await catchUp();
  }
}

globalThis.WebSocket ??= WebSocket; // built into Node.js from version 22
const open = url.startsWith("ws") ? wsconnect : connect;
const nc = await open({ servers: url, maxReconnectAttempts: -1 });
const work = [
  catchUpAfterReconnects(),
  receiveKeys(nc.subscribe(`chat.user.${account}.event.room.key`)),
  readMessages(nc.subscribe("example.room.*.message")),
];
await nc.flush(); // subscribe before fetching, so that no key falls between the two
await Promise.all([catchUp(), ...work]);
