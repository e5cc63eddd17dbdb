// A second verifier of the consortium log: Node.js and its own crypto, no package, nothing of our Python.
//
//   node verify.mjs RUN [--key HEX] [--json]        a run directory, or a folder with log.jsonl, checkpoints/, roster.json
//   node verify.mjs proof FILE --key HEX [--json]   one entry's .tlog-proof
//   node verify.mjs vectors DIR                     the known answers of tests/vectors
//
// Exit codes as fedcollm-secure verify: 0 verified, 1 not what it should be, 2 usage, 3 evidence is missing.
// It checks lines, chain, Merkle roots, the keeper's and the silos' Ed25519 signatures, the roster and the quorum. It holds
// the lines of each attempt and round against each other, as logged_sums.py states it, and against manifests, statements,
// lists of what is installed and the configuration's gates. It does not check ML-DSA-44 signatures (Node 20 has none; it
// says so), ledgers, adapters, proofs of bad dealing, or other fields inside an event.

import { createHash, createPublicKey, verify as verifySignature } from "node:crypto";
import { closeSync, constants, existsSync, fstatSync, lstatSync, openSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

const ED25519_NOTE = 1, ED25519_COSIGNATURE = 4, MLDSA44_COSIGNATURE = 6;
const MAX_DEPTH = 8, MAX_FILES = 100_000;
const LINES_BYTES = 1 << 28, DOCUMENT_BYTES = 1 << 24, NOTE_BYTES = 1 << 20, KEY_BYTES = 1 << 14; // longest files
const EVENTS = ["run_started", "round_started", "head_attested", "party_dropped", "party_refused", "sum_agreed",
  "party_convicted", "stage_answered", "sum_decrypted", "round_summed", "round_closed", "gate_passed", "gate_rejected", "run_stopped", "run_resumed", "run_finished"];
const FIELDS = "event,index,previous,time,version";
const LINE_BYTES = 1 << 20, JSON_DEPTH = 16, JSON_VALUES = 1 << 17, SIGNATURES = 256; // of one line, one text, one note
const TIME = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$/;
const EMPTY_ROOT = sha256(Buffer.alloc(0));

class Bad extends Error {
  constructor(reason, firstBad = null) { super(reason); this.firstBad = firstBad; }
}
class Incomplete extends Error {}

// ---- files that somebody else wrote: no links, no FIFOs, no devices, no folders, none too long

function readRegular(path, longest) {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile()) throw new Bad(`${path}: a regular file was expected`);
    if (status.size > longest) throw new Bad(`${path}: at most ${longest} bytes were expected`);
    return readFileSync(descriptor);
  } finally { closeSync(descriptor); }
}

function requirePlain(folder) { // regular files and folders alone, at any depth, and not too many
  if (!lstatSync(resolve(folder)).isDirectory()) throw new Bad(`${folder}: evidence lies in regular files and folders alone`);
  let count = 0;
  const walk = (place, depth) => {
    if (depth > MAX_DEPTH) throw new Bad(`${place}: at most ${MAX_DEPTH} folders inside one another were expected`);
    for (const one of readdirSync(place, { withFileTypes: true, encoding: "buffer" })) {
      const name = Buffer.concat([place, Buffer.from("/"), one.name]);
      if (count++ === MAX_FILES) throw new Bad(`${folder}: at most ${MAX_FILES} files were expected`);
      if (one.isDirectory()) walk(name, depth + 1);
      else if (!one.isFile()) throw new Bad(`${name}: evidence lies in regular files and folders alone`);
    }
  };
  walk(Buffer.from(folder), 0);
}

function namesIn(folder, suffix = "") { // the names in a folder that is no link; none where there is no folder
  if (!lstatSync(folder, { throwIfNoEntry: false })) return [];
  if (!lstatSync(resolve(folder)).isDirectory()) throw new Bad(`${folder}: a folder was expected`);
  return readdirSync(folder).filter((name) => name.endsWith(suffix));
}

// ---- hashes and signatures

function sha256(...parts) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}
const leafHash = (entry) => sha256(Buffer.from([0]), entry);
const nodeHash = (left, right) => sha256(Buffer.from([1]), left, right);
const length4 = (data) => { const size = Buffer.alloc(4); size.writeUInt32BE(data.length); return size; };

function labelled(label, ...parts) {
  return sha256(Buffer.from(label + "\0"), ...parts.flatMap((part) => [length4(part), part]));
}

function ed25519(key, message, signature) {
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]); // RFC 8410
  const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
  return signature.length === 64 && verifySignature(null, message, publicKey, signature);
}

// ---- Merkle trees (RFC 9162, section 2.1)

const merkleRoot = (leaves) => rootsAt(leaves, [leaves.length]).get(leaves.length);

function rootsAt(leaves, sizes) { // the roots of several sizes in one pass
  const wanted = new Set(sizes), found = new Map(), peaks = [];
  if (wanted.has(0)) found.set(0, EMPTY_ROOT);
  leaves.forEach((leaf, index) => {
    let hash = leaf, height = 0;
    while (peaks.length && peaks.at(-1)[0] === height) { hash = nodeHash(peaks.pop()[1], hash); height += 1; }
    peaks.push([height, hash]);
    if (wanted.has(index + 1)) {
      found.set(index + 1, peaks.map(([, one]) => one).reduceRight((right, left) => nodeHash(left, right)));
    }
  });
  return found;
}

function checkProof(proof) {
  if (proof.length > 64 || proof.some((one) => one.length !== 32)) throw new Bad("proof: at most 64 hashes of 32 bytes");
}

function climb(first, last, proof, step) { // walk up from the leaf `first` of the tree whose last leaf is `last`
  for (const sibling of proof) {
    if (last === 0n) throw new Bad("proof: it has more hashes than the tree has levels");
    if (first & 1n || first === last) {
      step(sibling, true);
      while (!(first & 1n) && first) { first >>= 1n; last >>= 1n; }
    } else step(sibling, false);
    first >>= 1n; last >>= 1n;
  }
  return last;
}

function verifyInclusion(leaf, index, size, proof, root) {
  if (!(index >= 0 && index < size)) throw new Bad("inclusion proof: the entry cannot be in a tree of this size");
  checkProof(proof);
  let found = leaf;
  const rest = climb(BigInt(index), BigInt(size - 1), proof, (sibling, left) => {
    found = left ? nodeHash(sibling, found) : nodeHash(found, sibling);
  });
  if (rest !== 0n || !found.equals(root)) throw new Bad("inclusion proof: it does not lead to the root");
}

function verifyConsistency(old, oldRoot, size, root, proof) {
  if (!(old >= 0 && old <= size)) throw new Bad("consistency proof: the log shrank");
  checkProof(proof);
  if (old === 0 || old === size) {
    if (proof.length || !oldRoot.equals(old ? root : EMPTY_ROOT)) throw new Bad("consistency proof: two roots of one size");
    return;
  }
  let first = BigInt(old - 1), last = BigInt(size - 1);
  while (first & 1n) { first >>= 1n; last >>= 1n; }
  const path = first ? [...proof] : [oldRoot, ...proof];
  if (!path.length) throw new Bad("consistency proof: it is empty");
  let was = path[0], now = path[0];
  const rest = climb(first, last, path.slice(1), (sibling, left) => {
    if (left) { was = nodeHash(sibling, was); now = nodeHash(sibling, now); } else now = nodeHash(now, sibling);
  });
  if (rest !== 0n || !was.equals(oldRoot) || !now.equals(root)) throw new Bad("consistency proof: not those seen before");
}

// ---- signed notes and checkpoints (C2SP)

function base64(text) {
  const data = Buffer.from(text, "base64");
  if (!data.length || data.toString("base64") !== text) throw new Bad("note: canonical base64 was expected");
  return data;
}

function readNote(bytes) {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  if (text.length > 1 << 20 || /[\x00-\x09\x0b-\x1f]/.test(text)) throw new Bad("note: printable text was expected");
  const cut = text.lastIndexOf("\n\n"), tail = text.slice(cut + 2);
  if (cut < 0 || !tail.endsWith("\n")) throw new Bad("note: a text, a blank line and signature lines were expected");
  const lines = tail.slice(0, -1).split("\n");
  if (lines.length > SIGNATURES) throw new Bad(`note: at most ${SIGNATURES} signatures were expected`);
  const signatures = lines.map((line) => {
    const match = /^— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u.exec(line);
    if (!match || /[\p{C}\p{Z}]/u.test(match[1])) throw new Bad("note: a signature line reads — name base64");
    const data = base64(match[2]);
    if (data.length <= 4) throw new Bad("note: a key id and a signature were expected");
    return { name: match[1], id: data.subarray(0, 4), signature: data.subarray(4) };
  });
  return { text: text.slice(0, cut + 1), signatures };
}

function readCheckpoint(text) {
  const [origin, size, root, end, ...more] = text.split("\n");
  if (end !== "" || more.length || !origin || !/^(0|[1-9]\d{0,15})$/.test(size)) {
    throw new Bad("checkpoint: origin, size and root, a line each, were expected");
  }
  const hash = base64(root);
  if (hash.length !== 32) throw new Bad("checkpoint: a root of 32 bytes was expected");
  return { origin, size: Number(size), root: hash };
}

const keyId = (name, kind, key) => sha256(Buffer.from(name + "\n"), Buffer.from([kind]), key).subarray(0, 4);

function lineOf(note, name, kind, key) {
  const id = keyId(name, kind, key);
  const found = note.signatures.filter((line) => line.name === name && line.id.equals(id));
  if (found.length > 1) throw new Bad("checkpoint: one key signed it twice");
  return found[0];
}

function openCheckpoint(note, keeper, origin = null) {
  const head = readCheckpoint(note.text);
  if (origin !== null && head.origin !== origin) throw new Bad(`checkpoint: this one is of ${head.origin}`);
  const line = lineOf(note, head.origin, ED25519_NOTE, keeper);
  if (!line) throw new Bad("checkpoint: the keeper did not sign it");
  if (!ed25519(keeper, Buffer.from(note.text), line.signature)) throw new Bad("checkpoint: the keeper's signature does not verify");
  return head;
}

function requireOwnLines(note, origin, keeper, witnesses) { // in a log's own folder nobody else signs
  const allowed = new Set(), place = (name, kind, key) => `${name} ${keyId(name, kind, key).toString("hex")}`;
  allowed.add(place(origin, ED25519_NOTE, keeper[0]));
  for (const [name, key] of witnesses) allowed.add(place(name, ED25519_COSIGNATURE, key));
  for (const [name, , mldsa44] of [[origin, ...keeper], ...witnesses]) {
    if (mldsa44) allowed.add(place(name, MLDSA44_COSIGNATURE, mldsa44));
  }
  for (const line of note.signatures) { // what is left in the set has signed nothing yet
    if (!allowed.delete(`${line.name} ${line.id.toString("hex")}`)) {
      throw new Bad("checkpoint: a signature line is of no key of keeper and silos, or stands there twice");
    }
  }
}

function cosigners(note, witnesses) { // witnesses: [name, key, ML-DSA-44 key]; returns the names of those who cosigned
  return witnesses.filter(([name, key, mldsa44]) => {
    const line = lineOf(note, name, ED25519_COSIGNATURE, key);
    if (!line) return false;
    const time = line.signature.length === 72 ? line.signature.readBigUInt64BE(0) : -1n;
    const message = Buffer.from(`cosignature/v1\ntime ${time}\n${note.text}`);
    if (!ed25519(key, message, line.signature.subarray(8))) throw new Bad(`checkpoint: the cosignature of ${name} does not verify`);
    return !mldsa44 || lineOf(note, name, MLDSA44_COSIGNATURE, mldsa44) !== undefined; // there; not verified
  }).map(([name]) => name);
}

const quorum = (witnesses, colluding) => Math.floor((witnesses + colluding) / 2) + 1;
const keyName = (party) => [...party].map((letter) => (/[+%\s\p{C}\p{Z}]/u.test(letter) // as audit/checkpoints.key_name
  ? [...Buffer.from(letter)].map((byte) => "%" + byte.toString(16).toUpperCase().padStart(2, "0")).join("") : letter)).join("");

// ---- the log

function canonical(value) { // RFC 8785 for text, integers, truth values, lists and objects
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.keys(value).sort().map((key) => `${canonical(key)}:${canonical(value[key])}`).join(",")}}`;
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw new Bad("a number that is no safe integer");
  if (typeof value === "string" && !value.isWellFormed()) throw new Bad("a lone surrogate is no text"); // as an escape it would pass
  return JSON.stringify(value);
}

function checkBounds(bytes) { // as fedcollm_crypto.bounds: before any of it is parsed
  let marks = 0, values = 0, depth = 0, inText = false;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (byte === 0x22 || byte === 0x5c) marks += 1;
    if (byte === 0x22) inText = !inText;
    else if (inText && byte === 0x5c) { at += 1; if (bytes[at] === 0x22 || bytes[at] === 0x5c) marks += 1; }
    else if (!inText && (byte === 0x5b || byte === 0x7b)) { depth += 1; values += 1; }
    else if (!inText && (byte === 0x5d || byte === 0x7d)) depth -= 1;
    else if (!inText && byte === 0x2c) values += 1;
    if (depth < 0 || depth > JSON_DEPTH) throw new Bad(`not canonical JSON: brackets that match, at most ${JSON_DEPTH} deep, were expected`);
  }
  if (bytes.length > DOCUMENT_BYTES || values > JSON_VALUES || marks > 8 * JSON_VALUES || depth || inText) {
    throw new Bad("not canonical JSON: it is longer or fuller than anybody reads, or is cut");
  }
}

function decode(bytes) {
  checkBounds(bytes);
  let value;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch { throw new Bad("not canonical JSON"); }
  if (!Buffer.from(canonical(value)).equals(bytes)) throw new Bad("not canonical JSON: it is spelt differently");
  return value;
}

function readLines(data) {
  const lines = [];
  let start = 0;
  for (let end; (end = data.indexOf(10, start)) >= 0; start = end + 1) lines.push(data.subarray(start, end));
  return { lines, torn: data.length - start };
}

function readLog(data) {
  const { lines, torn } = readLines(data), leaves = [], events = [];
  let previous = "0".repeat(64);
  lines.forEach((line, index) => {
    let body;
    if (line.length > LINE_BYTES) throw new Bad(`the line is longer than ${LINE_BYTES} bytes`, index);
    try { body = decode(line); } catch (error) { throw new Bad(error.message, index); }
    if (body === null || typeof body !== "object" || Object.keys(body).sort().join() !== FIELDS) {
      throw new Bad(`a line must hold exactly ${FIELDS}`, index);
    }
    if (body.version !== 3) throw new Bad("the entry's version is unknown", index);
    if (body.index !== index) throw new Bad(`it says it is entry ${body.index}`, index);
    if (body.previous !== previous) throw new Bad("the next entry does not follow it", Math.max(index - 1, 0));
    if (typeof body.time !== "string" || !TIME.test(body.time)) throw new Bad("the time is malformed", index);
    if (!EVENTS.includes(body.event?.type)) throw new Bad("unknown event type", index);
    const leaf = leafHash(line);
    leaves.push(leaf); events.push(body.event); previous = leaf.toString("hex");
  });
  return { leaves, events, torn };
}

function checkOrder(events) {
  let closed = 0;
  events.forEach((event, index) => {
    if (event.type === "round_closed" && event.round !== ++closed) throw new Bad("rounds close once, in order", index);
    if ((event.type === "run_started") !== (index === 0)) throw new Bad("a log begins with run_started, once", index);
    if (event.type === "head_attested" && event.size > index) throw new Bad("a head is attested that the log does not have yet", index);
    if (event.type === "run_finished" && index < events.length - 1) throw new Bad("entries follow run_finished", index + 1);
  });
}

// ---- what the log says of each attempt and round, against itself: the rules at the top of logged_sums.py

// Exchanges of an attempt, counted from 1. silos: each asks whom the one before accepted. aside: asks accused dealers.
// vectors: brings the vectors. agreedAfter: the last before the sum is agreed to. deposits: after the vectors the decryptor
// is asked, once for each vector, then for the sum.
const PROTOCOLS = new Map(Object.entries({
  masked: { silos: [1, 2, 3, 5, 6, 7], aside: [4], vectors: 5, agreedAfter: 6, decryptor: [] },
  bfv: { silos: [2, 3, 4, 6, 7, 9], aside: [5], vectors: 6, agreedAfter: 7, decryptor: [1, 8] },
  ckks: { silos: [2, 3], aside: [], vectors: 3, agreedAfter: 3, decryptor: [1], deposits: true },
  unsafe_plain: { silos: [1], aside: [], vectors: 1, agreedAfter: 0, decryptor: [] },
}));
const NOTHING_SUMMED = EMPTY_ROOT.toString("hex");
const within = (some, all) => some.every((one) => all.has(one));
const sameNames = (one, other) => one.size === other.size && within([...one], other);

class Attempt { // what the log said of it so far
  constructor(started, protocol) {
    this.started = started; this.protocol = protocol; this.agreed = null; this.decrypted = null; this.summed = null;
    this.convicted = new Set(); this.isOpen = false; this.lost = new Set(); this.last = 0; this.accepted = new Map(); this.said = new Map();
    this.cohort = new Set(started.cohort); this.left = this.cohort;
  }
  get vectors() { return this.accepted.get(this.protocol.vectors) ?? []; }
  get survivors() { return new Set(this.agreed ? this.agreed.survivors : this.vectors); }
  ofDecryptor() {
    const { decryptor, deposits, vectors } = this.protocol;
    return deposits ? [...decryptor, ...this.vectors.map((_, place) => vectors + 1 + place), vectors + 1 + this.vectors.length] : decryptor;
  }
  get opensAfter() { // the last exchange before a sum is agreed to; the next one opens it
    return this.protocol.agreedAfter + (this.protocol.deposits ? this.vectors.length : 0);
  }
  asksDecryptor(stage) {
    const { decryptor, deposits, vectors } = this.protocol;
    return decryptor.includes(stage) || Boolean(deposits && stage > vectors && stage <= vectors + this.vectors.length + 1);
  }
  require(last, index) { // each stage up to this one has an answer that counts
    for (const stage of [...this.protocol.silos, ...this.ofDecryptor()]) {
      if (stage <= last && !this.accepted.get(stage)?.length) throw new Bad(`nobody's answer to stage ${stage} was accepted`, index);
    }
  }
  answer(stage, index) {
    const replies = Object.keys(stage.replies), { silos, aside } = this.protocol;
    if (!(stage.stage > this.last)) throw new Bad("stages are not in their order", index);
    if (!within(stage.accepted, new Set(replies))) throw new Bad("a stage counts silos that did not answer", index);
    if ([...silos, ...aside].includes(stage.stage)) {
      if (!within(replies, this.left)) throw new Bad("a stage was answered by silos that the stage before lost", index);
      if (silos.includes(stage.stage)) this.left = new Set(stage.accepted);
    } else if (!this.asksDecryptor(stage.stage) || replies.some((party) => this.cohort.has(party))) {
      throw new Bad("a stage that the aggregation does not ask of them", index);
    }
    if (!this.agreed && this.protocol.agreedAfter && stage.stage > this.opensAfter) {
      throw new Bad("a stage that opens a sum, and no line names that sum before it", index);
    }
    this.last = stage.stage; this.accepted.set(stage.stage, stage.accepted);
    for (const [party, hex] of Object.entries(stage.replies)) {
      if (!this.said.has(party)) this.said.set(party, createHash("sha256"));
      this.said.get(party).update(fromHex(hex));
    }
  }
  agree(agreed, index) {
    const { agreedAfter, deposits } = this.protocol, vectors = new Set(this.vectors), survivors = new Set(agreed.survivors);
    if (this.agreed || agreed.adapter_digest !== this.started.adapter_digest || !agreedAfter) {
      throw new Bad("a sum agreed to twice, in the clear, or in an attempt that began otherwise", index);
    }
    if (!within(agreed.survivors, this.cohort)) throw new Bad("a sum over silos that were not asked", index);
    if (!survivors.size || !(deposits ? within(agreed.survivors, vectors) : sameNames(survivors, vectors))) {
      throw new Bad("a sum over others than those whose vectors came", index);
    }
    this.require(this.opensAfter, index);
    this.agreed = agreed;
  }
  decrypt(decrypted, index) {
    if (this.decrypted || !this.agreed || this.agreed.linear_pass !== decrypted.linear_pass || !this.protocol.decryptor.length) {
      throw new Bad("a sum opened twice, to which no silos agreed, or by a decryptor that there is not", index);
    }
    if (!this.accepted.get(this.opensAfter + 1)?.length) throw new Bad("a sum opened by a decryptor that was not asked to", index);
    this.decrypted = decrypted;
  }
  judge(index) { // somebody speaks of the sum: it must be open
    if (this.isOpen) return;
    const unsaid = (this.protocol.agreedAfter && !this.agreed) || (this.protocol.decryptor.length && !this.decrypted);
    if (unsaid) throw new Bad("a gate spoke of a sum that was not opened before", index);
    this.require(Infinity, index);
    this.isOpen = true;
  }
  convict(party, index) {
    this.convicted.add(party);
    if (this.summed && this.survivors.has(party)) throw new Bad("a silo convicted of its part in a sum that is over it", index);
  }
  sumUp(summed, index) { // a crash may have had it said twice
    if (this.summed) {
      if (canonical(this.summed) !== canonical(summed)) throw new Bad("an attempt summed to two ends", index);
      return;
    }
    const digests = Object.fromEntries([...this.said].map(([party, hash]) => [party, hash.copy().digest("hex")]));
    if (canonical(digests) !== canonical(summed.replies)) throw new Bad("digests of all replies that are not over those of the stages", index);
    if (this.protocol.agreedAfter && !this.agreed) throw new Bad("a sum that no silos agreed to open", index);
    this.require(Infinity, index);
    if (this.protocol.decryptor.length && !this.decrypted) throw new Bad("a sum that no decryptor opened", index);
    const survivors = this.survivors, known = new Set([...survivors, ...this.lost]);
    if ([...this.convicted].some((party) => survivors.has(party))) throw new Bad("a sum over a silo that was convicted in it", index);
    if (!within([...this.cohort], known)) throw new Bad("a sum without a silo of which nothing is said", index);
    this.summed = summed;
  }
}

const speaksOfASum = ({ gate, type }) => gate !== "trust_region" && (type === "gate_passed" || !["range", "sum"].includes(gate));

function rejectedBy(gates) { // a gate on what was made of the average afterwards throws nothing away
  return [...gates].filter(([gate, passed]) => !passed && gate !== "trust_region").map(([gate]) => gate);
}

function checkRoundGates(gates, summed, asked, index) { // gates: the last word of each; asked: by the configuration, or null
  const rejected = rejectedBy(gates), noSum = rejected.includes("sum") || rejected.includes("range");
  const passed = (gate) => gates.get(gate) === true;
  if (!summed && (!noSum || [...gates.keys()].some((gate) => passed(gate) && gate !== "trust_region"))) {
    throw new Bad("a round closed without a sum, and no gate says why", index);
  }
  if (summed && noSum) throw new Bad("a round closed with a sum, and a gate says that there is none", index);
  const wanted = ["range", ...(asked ?? [])].filter((gate) => gate !== "trust_region");
  if (summed && !rejected.length && !wanted.every(passed)) throw new Bad("a gate says nothing of the round's sum", index);
  if (asked === null) return;
  if (asked.includes("trust_region") && !gates.has("trust_region")) throw new Bad("a gate says nothing of the round's adapter", index);
  if ([...gates.keys()].some((gate) => !["range", "sum", ...asked].includes(gate))) throw new Bad("a gate that config.yaml does not ask for", index);
}

function checkSums(events) {
  if (!events.length) return;
  const start = events[0], protocol = PROTOCOLS.get(start.aggregation);
  if (!protocol) throw new Bad("an unknown aggregation", 0);
  const convicted = new Set(), gates = new Map();
  let closed = 0, average = null, adapter = null, attempts = [];
  const requireOpen = (round, index) => {
    if (!attempts.length || round !== closed + 1) throw new Bad("something is said of a round that is not under way", index);
  };
  const under = (event, index) => { // the attempt that is under way
    if (!attempts.length || event.round !== closed + 1 || event.attempt !== attempts.length) {
      throw new Bad("a line of an attempt that never began, or is over", index);
    }
    return attempts.at(-1);
  };
  const close = (event, index) => {
    if (!attempts.length || event.round !== closed + 1) throw new Bad("a round is closed, and no attempt at it began", index);
    const summed = attempts.filter((attempt) => attempt.summed), last = attempts.at(-1);
    if (summed.length) {
      const over = new Set(event.contributors);
      if (summed.some((attempt) => !sameNames(attempt.survivors, over))) throw new Bad("a round closed over other silos than those that agreed", index);
      if (event.total_weight < over.size) throw new Bad("a round closed with a weight of less than 1 for each silo in it", index);
      if (!last.summed) throw new Bad("a round closed with a sum that is not its last attempt's", index);
      if (protocol.agreedAfter && summed.some((attempt, place) => attempt.agreed.linear_pass !== place)) throw new Bad("a pass not summed once", index);
      if (summed.some((attempt) => attempt.summed.averaged_digest !== last.summed.averaged_digest)) throw new Bad("passes with two averages", index);
    } else if (event.contributors.length || event.total_weight || event.sum_digest !== NOTHING_SUMMED) {
      throw new Bad("a round closed with contributors and without a sum", index);
    }
    if (attempts.some((attempt) => attempt.started.adapter_digest !== last.started.adapter_digest)) throw new Bad("a round that began from two adapters", index);
    const came = summed.length && !rejectedBy(gates).length ? last.summed.averaged_digest : average ?? last.started.adapter_digest;
    if (event.averaged_digest !== came) throw new Bad("another average than the one that came out", index);
    if (adapter !== null && event.adapter_before !== adapter) throw new Bad("a round closed from another adapter than the round before left", index);
    checkRoundGates(gates, summed.length > 0, null, index);
    adapter = event.adapter_after;
    closed = event.round; average = event.averaged_digest; attempts = []; gates.clear();
  };
  events.forEach((event, index) => {
    switch (event.type) {
      case "round_started":
        if (event.round !== closed + 1 || event.attempt !== attempts.length + 1) throw new Bad("an attempt begins out of turn", index);
        if (event.cohort.some((party) => convicted.has(party))) throw new Bad("a silo is asked that was convicted before", index);
        attempts.push(new Attempt(event, protocol)); gates.clear();
        break;
      case "stage_answered": under(event, index).answer(event, index); break;
      case "sum_agreed": under(event, index).agree(event, index); break;
      case "sum_decrypted": under(event, index).decrypt(event, index); break;
      case "round_summed":
        requireOpen(event.round, index);
        if (!attempts[event.attempt - 1]) throw new Bad("a sum of an attempt that never began", index);
        attempts[event.attempt - 1].sumUp(event, index);
        break;
      case "party_dropped": case "party_refused": case "party_convicted":
        requireOpen(event.round, index);
        attempts.at(-1).lost.add(event.party);
        if (event.type === "party_convicted") { convicted.add(event.party); under(event, index).convict(event.party, index); }
        break;
      case "gate_passed": case "gate_rejected":
        requireOpen(event.round, index);
        if (speaksOfASum(event)) attempts.at(-1).judge(index);
        gates.set(event.gate, event.type === "gate_passed");
        break;
      case "run_stopped": case "run_resumed":
        if (event.rounds_done !== closed) throw new Bad("the run stood at other closed rounds than it says", index);
        if (event.type === "run_resumed" && event.config_digest !== start.config_digest) throw new Bad("resumed under another configuration", index);
        break;
      case "round_closed": close(event, index);
    }
  });
}

function checkConfig(folder, events) { // as the log names it; its gates are those that spoke of each round
  const path = join(folder, "config.yaml");
  if (!events.length) return [];
  if (!lstatSync(path, { throwIfNoEntry: false })) return ["config.yaml is missing"];
  const data = readRegular(path, DOCUMENT_BYTES);
  if (sha256(data).toString("hex") !== events[0].config_digest) throw new Bad("config.yaml is not the one that the run was started with", 0);
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  const asked = askedGates(text), gates = new Map();
  let summed = false;
  events.forEach((event, index) => {
    if (event.type === "round_started") gates.clear();
    if (event.type === "gate_passed" || event.type === "gate_rejected") gates.set(event.gate, event.type === "gate_passed");
    if (event.type === "round_summed") summed = true;
    if (event.type === "round_closed") { checkRoundGates(gates, summed, asked, index); gates.clear(); summed = false; }
  });
  checkEnd(events, text);
  return [];
}

function checkEnd(events, config) { // it finishes after all rounds, or after a line that says why before
  if (events.at(-1).type !== "run_finished") return;
  const said = config.split("\n").filter((line) => line.split(":")[0] === "rounds");
  const found = said.length === 1 ? /^rounds: ([1-9]\d{0,8})$/.exec(said[0]) : null;
  if (!found) throw new Bad("config.yaml: rounds stands there once, as a run writes it", 0);
  const rounds = Number(found[1]), closed = events.filter((event) => event.type === "round_closed").length;
  const last = events.filter((event) => ["round_closed", "run_resumed", "run_stopped"].includes(event.type)).at(-1);
  if (closed !== rounds && !(closed < rounds && last?.type === "run_stopped")) {
    throw new Bad(`the run finished after ${closed} rounds, config.yaml asks for ${rounds}, and it did not stop`, events.length - 1);
  }
}

function askedGates(config) { // of a configuration as a run writes it: block style, plain keys, no comments
  const names = { max_norm: "norm", max_loss_increase: "auxiliary_loss", trust_region: "trust_region" };
  const lines = config.split("\n"), isKey = (line) => /^[a-z0-9_]+:( .*)?$/.test(line);
  if (/[\r\x0b\x0c\x85\u2028\u2029]/.test(config) || !isKey(lines[0]) || !lines.every((line) => isKey(line) || /^((?: |- ).*|)$/.test(line))) {
    throw new Bad("config.yaml is not as a run writes it", 0);
  }
  const begin = lines.flatMap((line, place) => (line.split(":")[0] === "gates" ? [place] : []));
  if (!begin.length) return [];
  const rest = lines.slice(begin[0] + 1), end = rest.findIndex((line) => line[0] !== " ");
  const found = rest.slice(0, end < 0 ? rest.length : end).map((line) => /^ {2}([a-z_]+): ([0-9.eE+-]+|null)$/.exec(line));
  const unique = new Set(found.map((one) => one?.[1]));
  if (begin.length > 1 || lines[begin[0]] !== "gates:" || !found.length || unique.size < found.length ||
      found.some((one) => !one || !Object.hasOwn(names, one[1]))) {
    throw new Bad("config.yaml: gates stands there twice, or otherwise than a run writes it", 0);
  }
  return found.filter((one) => one[2] !== "null").map((one) => names[one[1]]);
}

function fromHex(text) { // Buffer.from would take capitals, and stop without a word at what is no digit
  if (typeof text !== "string" || !/^([0-9a-f]{2})*$/.test(text)) throw new Bad("roster.json: lower-case digits were expected");
  return Buffer.from(text, "hex");
}

function fieldsOf(value, names, what) { // a signed document holds its fields, and no other
  if (value === null || typeof value !== "object" || Object.keys(value).sort().join() !== names) {
    throw new Bad(`roster.json: ${what} holds ${names}, and nothing else`);
  }
}

function checkRosterForm(signed) {
  fieldsOf(signed, "countersignatures,possession,root_signature,roster", "a signed roster");
  const { members, policy } = signed.roster;
  fieldsOf(signed.roster, "consortium_id,epoch,members,policy", "a roster");
  for (const member of members) {
    fieldsOf(member, `ed25519,id,${Object.hasOwn(member, "mldsa44") ? "mldsa44," : ""}role`, "a member");
    if (!["silo", "server", "auditor", "decryptor"].includes(member.role)) throw new Bad(`roster.json: ${member.role} is no role`);
    if (Object.hasOwn(member, "mldsa44") && !member.mldsa44) throw new Bad("roster.json: a key that is none");
  }
  for (const name of ["id", "ed25519", "mldsa44"]) {
    const given = members.map((member) => member[name]).filter((one) => one !== undefined);
    if (new Set(given).size < given.length) throw new Bad("roster.json: its members have distinct names and distinct keys");
  }
  const silos = members.filter((member) => member.role === "silo").length;
  const fits = (count, most) => Number.isSafeInteger(count) && count >= 0 && count <= most;
  if (!fits(policy.countersignatures ?? 0, silos) || !fits(policy.colluding ?? 0, Math.max(1, silos) - 1)) {
    throw new Bad("roster.json: its policy counts silos that are not there");
  }
}

function readRoster(audit, events, keeper) {
  const path = join(audit, "roster.json");
  if (!lstatSync(path, { throwIfNoEntry: false })) return null;
  const signed = decode(readRegular(path, DOCUMENT_BYTES)), body = Buffer.from(canonical(signed.roster));
  checkRosterForm(signed);
  const isGenuine = (key, hex, kind = "roster", over = body) => {
    const signature = fromHex(hex), domain = signature.length > 64 ? "fedcollm/v1+mldsa44/" : "fedcollm/v1/";
    return ed25519(key, Buffer.concat([Buffer.from(`${domain}${kind}\0`), sha256(over)]), signature.subarray(0, 64));
  };
  const keys = new Map(signed.roster.members.map((member) => [member.id, fromHex(member.ed25519)]));
  if (!isGenuine(keeper, signed.root_signature)) throw new Bad("roster.json: the signature of the root does not verify");
  for (const [party, hex] of Object.entries(signed.countersignatures)) {
    if (!keys.has(party) || !isGenuine(keys.get(party), hex)) throw new Bad(`roster.json: the signature of ${party} fails`);
  }
  for (const party of Object.keys(signed.possession)) if (!keys.has(party)) throw new Bad(`roster.json: ${party} is no member`);
  for (const member of signed.roster.members) { // each has the keys that it is listed with
    const own = Buffer.from(canonical({ ...member, consortium_id: signed.roster.consortium_id, epoch: signed.roster.epoch }));
    if (!isGenuine(keys.get(member.id), signed.possession[member.id] ?? "", "roster-possession", own)) {
      throw new Bad(`roster.json: ${member.id} did not prove that it has its key`);
    }
  }
  if (labelled("fedcollm/v1/roster-hash", body).toString("hex") !== events[0].roster_digest) {
    throw new Bad("roster.json is not the roster that the run was started under: it is stale or was replaced", 0);
  }
  const silos = signed.roster.members.filter((member) => member.role === "silo");
  const signers = silos.filter((silo) => Object.hasOwn(signed.countersignatures, silo.id)).length;
  const stated = Math.max(signed.roster.policy.countersignatures ?? 0, Math.floor(silos.length / 2) + 1);
  if (signers < (events[0].simulated ? silos.length : stated)) throw new Bad(`roster.json: only ${signers} silos signed it`);
  const server = signed.roster.members.find((member) => member.role === "server" && member.ed25519 === keeper.toString("hex"));
  if (!server) throw new Bad("roster.json: the log's keeper is not the server that the roster lists");
  const mldsa44 = (member) => (member.mldsa44 ? fromHex(member.mldsa44) : undefined);
  return {
    keeper: [keeper, mldsa44(server)],
    asked: [signed.roster.consortium_id, signed.roster.epoch,
      labelled("fedcollm/v1/policy-hash", Buffer.from(canonical(signed.roster.policy))).toString("hex"), server.id],
    members: new Set(keys.keys()),
    decryptors: new Map(signed.roster.members.filter((member) => member.role === "decryptor").map((member) => [member.id, keys.get(member.id)])),
    witnesses: silos.map((silo) => [keyName(silo.id), keys.get(silo.id), mldsa44(silo)]),
    colluding: signed.roster.policy.colluding ?? 0,
    postQuantum: silos.some((silo) => silo.mldsa44),
  };
}

const originOf = (events) => (events.length ? `fedcollm-secure/${events[0].run_id}` : null); // each checkpoint begins with it

function readKeys(path) { // log.pub: a line of lower-case digits for Ed25519, and one for ML-DSA-44 where there is one
  const text = readRegular(path, KEY_BYTES).toString("latin1");
  if (!/^[0-9a-f]{64}\n([0-9a-f]{2624}\n)?$/.test(text)) throw new Bad("log.pub: a line of digits for each key was expected");
  return text.split("\n").slice(0, -1).map((line) => Buffer.from(line, "hex"));
}

function checkManifests(audit, events, leaves, roster) { // what each attempt asked for, against the log and its past
  const missing = [], asked = new Map(), closed = new Map(), heads = [];
  const check = (event, index) => {
    if (event.type === "round_closed") closed.set(event.round, event.averaged_digest);
    const manifest = asked.get(`${event.round} ${event.attempt}`);
    if (event.type === "sum_agreed" && manifest) {
      if (event.linear_pass !== (manifest.linear_pass ?? 0)) throw new Bad("a sum of another pass than its manifest asks for", index);
      if (event.survivors.length < Math.max(manifest.threshold, manifest.k_min)) throw new Bad("a sum over fewer silos than its manifest asks for", index);
    }
    if (event.type !== "round_started") return;
    const name = `${event.round}-${event.attempt}.json`, path = join(audit, "manifests", name);
    if (!lstatSync(path, { throwIfNoEntry: false })) { missing.push(`manifests/${name} is missing`); return; }
    const data = readRegular(path, DOCUMENT_BYTES);
    if (labelled("fedcollm/v1/manifest-hash", data).toString("hex") !== event.manifest_digest) {
      throw new Bad(`manifests/${name} is not the manifest that the log names`, index);
    }
    const said = decode(data), told = [event.round, event.attempt, event.cohort, event.adapter_digest, event.plan_digest, events[0].roster_digest];
    if (canonical([said.round, said.attempt, said.cohort, said.adapter_hash, said.train_cfg_hash, said.roster_hash]) !== canonical(told)) {
      throw new Bad(`manifests/${name}: the log says of this attempt what its manifest does not`, index);
    }
    if (said.prev_result_hash && said.prev_result_hash !== closed.get(event.round - 1)) {
      throw new Bad(`manifests/${name}: its reference is not the average that closed the round before`, index);
    }
    const first = asked.values().next().value ?? said;
    if (said.session_id !== events[0].run_id) throw new Bad(`manifests/${name} is of another run`, index);
    if (!said.dp_plan_hash !== (events[0].privacy === "non_private") || said.dp_plan_hash !== first.dp_plan_hash || said.base_model_hash !== first.base_model_hash) {
      throw new Bad(`manifests/${name} is of another base model or privacy plan than the log, or the first, says`, index);
    }
    if (roster && canonical([said.consortium_id, said.epoch, said.policy_hash, said.server]) !== canonical(roster.asked)) {
      throw new Bad(`manifests/${name} names another consortium, epoch, policy or server than the roster`, index);
    }
    const head = readCheckpoint(said.log_checkpoint ?? "");
    if (head.size > index || head.origin !== originOf(events)) throw new Bad(`manifests/${name}: the silos were shown another log than this one`, index);
    heads.push({ name, head, index }); asked.set(`${event.round} ${event.attempt}`, said);
  };
  let found = null; // what else is wrong, behind the heads that were gathered before it
  try { events.forEach(check); } catch (error) { found = error; }
  const roots = rootsAt(leaves, heads.map(({ head }) => head.size));
  for (const { name, head, index } of heads) {
    if (!roots.get(head.size).equals(head.root)) throw new Bad(`manifests/${name}: the silos were shown another log than this one`, index);
  }
  if (found) throw found;
  return missing;
}

function named(audit, path, hex, index) { // a file that the log names by its digest; null where it is not there
  if (!lstatSync(join(audit, path), { throwIfNoEntry: false })) return null;
  const data = readRegular(join(audit, path), DOCUMENT_BYTES);
  if (sha256(data).toString("hex") !== hex) throw new Bad(`${path} is not the one that the log names`, index);
  return data;
}

function checkEnvironments(audit, events) { // what is installed, and the versions that the log names
  const missing = [];
  events.forEach((event, index) => {
    if (!["run_started", "run_resumed"].includes(event.type)) return;
    const name = `${event.environment_digest}.txt`, data = named(audit, `environments/${name}`, event.environment_digest, index);
    if (data === null) { missing.push(`environments/${name} is missing`); return; }
    const lines = data.toString("latin1").split("\n");
    const found = lines.slice(0, -1).map((line) => /^([!-<>-~]+)==([!-~]+) (-|[0-9a-f]{64})$/.exec(line));
    const versions = new Map(found.filter(Boolean).map((one) => [one[1], one[2]]));
    if (lines.at(-1) || versions.size !== lines.length - 1) throw new Bad(`environments/${name} is no list of distributions, each once`, index);
    for (const [one, version] of Object.entries(event.software)) {
      if (versions.get(one) !== version) throw new Bad(`the log says ${one} ${version}, and what was installed ${versions.get(one)}`, index);
    }
  });
  return missing;
}

function checkOpenings(audit, events, roster) { // what the decryptor signed
  const missing = [];
  events.forEach((event, index) => {
    if (event.type !== "sum_decrypted") return;
    const name = `${event.statement_digest}.json`;
    const data = named(audit, `statements/${name}`, event.statement_digest, index);
    if (data === null) missing.push(`statements/${name} is missing`);
    else if (roster) checkStatement(audit, event, decode(data), roster, index);
  });
  return missing;
}

function checkStatement(audit, event, signed, roster, index) { // by the decryptor, of the log's manifest, under the log's key
  const key = roster.decryptors.get(event.decryptor), body = Buffer.from(canonical(signed.body)), signature = fromHex(signed.signature);
  const domain = signature.length > 64 ? "fedcollm/v1+mldsa44/" : "fedcollm/v1/";
  const text = Buffer.concat([Buffer.from(`${domain}he-opened\0`), sha256(body)]);
  if (signed.from !== event.decryptor || signed.kind !== "he-opened" || !key || !ed25519(key, text, signature.subarray(0, 64))) {
    throw new Bad("a statement that the decryptor did not sign", index);
  }
  if (signed.body.sum_hash !== event.ciphertexts_digest || signed.body.opened_hash !== event.opened_digest) {
    throw new Bad("a statement about another sum than the log says", index);
  }
  const path = join(audit, "manifests", `${event.round}-${event.attempt}.json`);
  if (!lstatSync(path, { throwIfNoEntry: false })) return; // that it is missing, checkManifests says
  const encryption = { decryptor: event.decryptor, key_hash: event.key_digest, parameters_hash: event.parameters_digest };
  const asked = Buffer.from(canonical({ ...decode(readRegular(path, DOCUMENT_BYTES)), encryption }));
  if (labelled("fedcollm/v1/manifest-hash", asked).toString("hex") !== signed.body.manifest_hash) {
    throw new Bad("a statement under another manifest or key than the log says", index);
  }
}

const NAMED = { // by folder: which file an entry names, and what a digest's name ends with
  environments: (event) => (["run_started", "run_resumed"].includes(event.type) ? `${event.environment_digest}.txt` : null),
  manifests: (event) => (event.type === "round_started" ? `${event.round}-${event.attempt}.json` : null),
  proofs: (event) => (event.type === "party_convicted" ? `${event.proof_digest}.json` : null),
  statements: (event) => (event.type === "sum_decrypted" ? `${event.statement_digest}.json` : null),
};

function checkUnnamed(audit, events) { // a file that no entry names would pass for evidence, but for what a crash leaves
  const finished = events.at(-1)?.type === "run_finished", left = [];
  const look = (folder, name) => {
    const isLeft = finished ? folder === "checkpoints" && name === `.${events.length}.txt.partial`
      : /^\..+\.partial$/s.test(name) || (folder !== "checkpoints" && isOfACrash(audit, folder, name, events));
    if (!isLeft) throw new Bad(`${folder}/${name} is named by no entry of the log`);
    left.push(`${folder}/${name} is named by no entry, as a crash leaves it`);
  };
  for (const [folder, nameOf] of Object.entries(NAMED)) {
    const named = new Set(events.map(nameOf));
    namesIn(join(audit, folder)).filter((name) => !named.has(name)).sort().forEach((name) => look(folder, name));
  }
  namesIn(join(audit, "checkpoints")).filter((name) => !/^(0|[1-9]\d*)\.txt$/.test(name)).sort().forEach((name) => look("checkpoints", name));
  return left;
}

function isOfACrash(audit, folder, name, events) { // written, and its line was not
  const data = readRegular(join(audit, folder, name), DOCUMENT_BYTES);
  if (folder !== "manifests") return name === sha256(data).toString("hex") + (folder === "environments" ? ".txt" : ".json");
  const round = 1 + events.filter((event) => event.type === "round_closed").length;
  const attempt = 1 + events.filter((event) => event.type === "round_started" && event.round === round).length;
  let said = null;
  try { said = decode(data); } catch { return false; }
  return said?.round === round && said.attempt === attempt && name === `${round}-${attempt}.json`;
}

function checkParties(events, roster) { // who the log names is in the roster, and was asked; rounds are spoken of once they began
  const asked = new Map(), begun = new Set();
  events.forEach((event, index) => {
    let named = [];
    if (event.type === "round_started") { named = event.cohort; asked.set(`${event.round} ${event.attempt}`, new Set(event.cohort)); begun.add(event.round); }
    if (event.type === "stage_answered") {
      named = Object.keys(event.replies);
      const cohort = asked.get(`${event.round} ${event.attempt}`) ?? new Set();
      if (named.some((party) => !cohort.has(party) && !roster.decryptors.has(party))) throw new Bad("others answered than were asked", index);
    }
    if (["party_dropped", "party_refused", "gate_passed", "gate_rejected"].includes(event.type)) {
      if (event.party !== undefined) named = [event.party];
      if (!begun.has(event.round)) throw new Bad("something is said of a round that did not begin", index);
    }
    if (event.type === "round_closed") named = [...event.contributors, ...Object.keys(event.ledgers), ...Object.keys(event.epsilon)];
    if (named.some((party) => !roster.members.has(party))) throw new Bad("a party is named that is not in the roster", index);
  });
}

function checkAttested(events, bySize) { // no cosignature that the log says was given may be gone
  const given = new Map([...bySize].map(([size, names]) => [size, new Set(names)]));
  events.forEach((event, index) => {
    if (event.type !== "head_attested") return;
    const gone = event.silos.filter((silo) => !given.get(event.size)?.has(keyName(silo)));
    if (gone.length) throw new Bad(`checkpoints/${event.size}.txt lacks cosignatures that were given: ${gone.sort().join(", ")}`, index);
  });
}

function verifyLog(folder, givenKey) {
  const audit = lstatSync(join(folder, "audit"), { throwIfNoEntry: false })?.isDirectory() ? join(folder, "audit") : folder;
  requirePlain(folder);
  const { leaves, events, torn } = readLog(readRegular(join(audit, "log.jsonl"), LINES_BYTES));
  checkOrder(events);
  checkSums(events);
  const [keeper, keeperMldsa44] = givenKey ? [givenKey] : readKeys(join(audit, "log.pub"));
  const roster = events.length ? readRoster(audit, events, keeper) : null;
  if (roster && keeperMldsa44 && !keeperMldsa44.equals(roster.keeper[1] ?? Buffer.alloc(0))) {
    throw new Bad("log.pub: the ML-DSA-44 key is not the keeper's in the roster");
  }
  const notesFolder = join(audit, "checkpoints");
  const notes = namesIn(notesFolder, ".txt").map((name) => ({ name, note: readNote(readRegular(join(notesFolder, name), NOTE_BYTES)) }))
    .map(({ name, note }) => ({ name, note, head: readCheckpoint(note.text) })).sort((a, b) => a.head.size - b.head.size);
  const roots = rootsAt(leaves, notes.map(({ head }) => head.size));
  const bySize = new Map();
  let signed = 0, cosigned = 0, count = 0;
  for (const { name, note, head } of notes) {
    if (name !== `${head.size}.txt`) throw new Bad(`${name}: it is the checkpoint of ${head.size} entries`);
    openCheckpoint(note, keeper, originOf(events) ?? notes[0].head.origin);
    if (roster) requireOwnLines(note, head.origin, roster.keeper, roster.witnesses);
    bySize.set(head.size, roster ? cosigners(note, roster.witnesses) : []);
    count = bySize.get(head.size).length;
    if (head.size > leaves.length) throw new Bad(`the log was cut: a signed checkpoint has ${head.size} entries`, leaves.length);
    if (!roots.get(head.size).equals(head.root)) throw new Bad(`one of the entries ${signed} to ${head.size - 1} is not the signed one`, signed);
    signed = head.size;
    if (roster && count >= quorum(roster.witnesses.length, roster.colluding)) cosigned = head.size;
  }
  if (roster) { checkParties(events, roster); checkAttested(events, bySize); }
  const missing = [...checkOpenings(audit, events, roster), ...checkManifests(audit, events, leaves, roster), ...checkEnvironments(audit, events), ...checkUnnamed(audit, events)];
  if (audit !== folder) missing.push(...checkConfig(folder, events));
  if (torn) missing.push("the last line is torn");
  if (!roster) missing.push("roster.json is missing, so no cosignature was checked");
  if (signed < leaves.length) missing.push(`entries ${signed} to ${leaves.length - 1} stand under no signed checkpoint yet`);
  else if (roster && cosigned < leaves.length) missing.push(`the last head is cosigned by ${count} silos: no quorum`);
  if (events.at(-1)?.type !== "run_finished") missing.push("the run did not finish");
  if (events.some((event) => event.type === "party_convicted")) missing.push("proofs of bad dealing were not checked here");
  const note = roster?.postQuantum ? "ML-DSA-44 signatures were not checked" : "";
  return {
    verified: !missing.length, entries: leaves.length, root: merkleRoot(leaves).toString("hex"), first_bad: null,
    reason: [...missing, note].filter(Boolean).join("; "), signed, cosigned,
  };
}

function verifyProof(file, keeper) {
  const text = readRegular(file, 1 << 22).toString("utf-8"), cut = text.indexOf("\n\n");
  const [header, extra, index, ...path] = text.slice(0, cut).split("\n");
  if (cut < 0 || header !== "c2sp.org/tlog-proof@v1" || !extra?.startsWith("extra ") || !/^index (0|[1-9]\d*)$/.test(index ?? "")) {
    throw new Bad("proof: a header, the entry, its index, hashes and a checkpoint were expected");
  }
  const head = openCheckpoint(readNote(Buffer.from(text.slice(cut + 2))), keeper), entry = base64(extra.slice(6));
  verifyInclusion(leafHash(entry), Number(index.slice(6)), head.size, path.map(base64), head.root);
  return { verified: true, entries: head.size, root: head.root.toString("hex"), first_bad: null, reason: "", entry: entry.toString() };
}

// ---- known answers

function verifyVectors(folder) {
  const load = (name) => JSON.parse(readFileSync(join(folder, name), "utf-8"));
  const hex = (text) => Buffer.from(text, "hex"), hexes = (texts) => texts.map(hex);
  let count = 0;
  const good = (holds, what) => { count += 1; if (!holds) throw new Bad(`vector: ${what}`); };
  const refused = (check, what) => {
    let caught = null;
    try { check(); } catch (error) { caught = error; }
    good(caught instanceof Bad, `${what} was not refused (${caught?.message ?? "it passed"})`);
  };
  const proofs = load("log_proofs.json"), leaves = hexes(proofs.entries).map(leafHash), roots = hexes(proofs.roots);
  roots.forEach((root, size) => good(merkleRoot(leaves.slice(0, size)).equals(root), `root of ${size}`));
  for (const c of proofs.inclusion) { verifyInclusion(leaves[c.index], c.index, c.size, hexes(c.proof), roots[c.size]); count += 1; }
  for (const c of proofs.consistency) { verifyConsistency(c.old, roots[c.old], c.size, roots[c.size], hexes(c.proof)); count += 1; }
  const bad = load("log_bad_proofs.json");
  for (const c of bad.inclusion) refused(() => verifyInclusion(hex(c.leaf), c.index, c.size, hexes(c.proof), hex(c.root)), c.name);
  for (const c of bad.consistency) refused(() => verifyConsistency(c.old, hex(c.old_root), c.size, hex(c.root), hexes(c.proof)), c.name);
  const known = load("log_checkpoints.json"), witnesses = Object.entries(known.witnesses).map(([name, key]) => [name, hex(key)]);
  const accept = (text) => {
    const note = readNote(Buffer.from(text)), head = openCheckpoint(note, hex(known.keeper), known.origin);
    return { head, names: cosigners(note, witnesses) };
  };
  const { head, names } = accept(known.note);
  good(head.size === known.size && head.root.equals(hex(known.root)) && names.join() === known.cosigners.join(), "checkpoint");
  for (const c of load("log_bad_checkpoints.json").cases) refused(() => accept(c.note), c.name);
  const published = load("published_log.json"), [name, , ...key] = published.cosigned.ed25519_verifier_key.split("+");
  const witness = [name, base64(key.join("+")).subarray(1)];
  good(cosigners(readNote(Buffer.from(published.cosigned.note)), [witness]).length === 1, "the published cosignature");
  good(published.roots.roots.every((root, size) => merkleRoot(hexes(published.roots.leaves.slice(0, size)).map(leafHash)).equals(hex(root))), "published roots");
  for (const c of load("canonical_bad_spelling.json").cases) refused(() => decode(hex(c.bytes ?? c.hex ?? c.data)), c.name);
  return { verified: true, entries: count, root: "", first_bad: null, reason: `${count} known answers` };
}

// ---- the command

// As untrusted_files.printable: whatever a foreign file says, a terminal is told no more than to print it.
const printable = (text) => text.replace(/[^\P{C}\n]|[^\P{Z} ]/gu, (letter) => [...Array(letter.length).keys()]
  .map((at) => `\\u${letter.charCodeAt(at).toString(16).padStart(4, "0")}`).join(""));

function main(args) {
  const asJson = args.includes("--json"), at = args.indexOf("--key");
  const key = at >= 0 ? Buffer.from(args[at + 1] ?? "", "hex") : null;
  const words = args.filter((word, place) => word !== "--json" && (at < 0 || (place !== at && place !== at + 1)));
  const usage = (text) => { process.stderr.write(`verify.mjs: ${printable(text)}\n`); return 2; };
  if (key !== null && key.length !== 32) return usage("--key: expected 64 hexadecimal digits");
  const target = words.at(-1);
  if (!words.length || !existsSync(target)) return usage(`no file or folder at ${target}`);
  let found, code = 0;
  try {
    if (words.length === 1 && statSync(target).isDirectory()) found = verifyLog(target, key);
    else if (words[0] === "proof" && key) found = verifyProof(target, key);
    else if (words[0] === "vectors") found = verifyVectors(target);
    else return usage("expected RUN, proof FILE --key HEX, or vectors DIR");
    code = found.verified ? 0 : 3;
  } catch (error) {
    if (error.code === "ENOENT") error = new Incomplete(`${error.path} is missing`);
    code = error instanceof Incomplete ? 3 : 1; // whatever else goes wrong in foreign bytes is their fault
    found = { verified: false, entries: 0, root: "", first_bad: error.firstBad ?? null, reason: error.message };
  }
  if (!asJson) found.reason = found.reason.replaceAll("\n", "\\n"); // a line of its own is ours alone
  const bad = found.first_bad === null ? "" : `first bad entry: ${found.first_bad}\n`;
  const words_ = `${found.verified ? "verified" : "NOT verified"}: ${found.entries} entries, head ${found.entries}:${found.root}\n${bad}${found.reason}`;
  process.stdout.write(printable(asJson ? JSON.stringify(found, null, 2) : words_.trimEnd()) + "\n");
  return code;
}

process.exitCode = main(process.argv.slice(2));
