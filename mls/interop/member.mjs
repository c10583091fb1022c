// What a member can be told to do. A Commit is staged: it takes effect with
// merge, which costs nothing here because the states of ts-mls are immutable.

import { createHash } from "node:crypto";
import { XWing } from "@hpke/hybridkem-x-wing";
import * as mls from "ts-mls";
import { encode } from "ts-mls/codec/tlsEncoder.js";
import { signWithLabel } from "ts-mls/crypto/signature.js";
import { leafNodeTBSEncoder } from "ts-mls/leafNode.js";
import { decodeRatchetTree, encodeRatchetTree } from "ts-mls/ratchetTree.js";
import { updateLeafKey } from "ts-mls/privateKeyPath.js";
import { p256, p384, p521 } from "@noble/curves/nist.js";

// privateUse are the suites that ts-mls can build but has no number for.
const privateUse = {
  XWING_AES128GCM_SHA256_Ed25519: {
    hash: "SHA-256",
    hpke: { kem: "X-Wing", aead: "AES128GCM", kdf: "HKDF-SHA256" },
    signature: "Ed25519",
  },
};

const bytes = (s) => new Uint8Array(Buffer.from(s ?? "", "base64"));
const base64 = (b) => Buffer.from(b).toString("base64");
const wire = (wireformat, field, value) => base64(mls.encodeMlsMessage({ version: "mls10", wireformat, [field]: value }));

function parse(s, ...wireformats) {
  const b = bytes(s);
  const [m, n] = mls.decodeMlsMessage(b, 0) ?? [];
  if (m === undefined || n !== b.length) throw new Error("message does not decode");
  if (!wireformats.includes(m.wireformat)) throw new Error(`message is a ${m.wireformat}`);
  return m;
}

// deriveXWing is DeriveKeyPair as our private-use suite has it, from
// draft-ietf-hpke-pq; @hpke/hybridkem-x-wing follows an older draft, which
// hashes the secret without a label.
async function deriveXWing(ikm) {
  const label = "DeriveKeyPair";
  const hash = createHash("shake256", { outputLength: 32 });
  hash.update(ikm).update("HPKE-v1KEM\x64\x7a").update(Buffer.from([0, label.length])).update(label);
  const seed = hash.update(Buffer.from([0, 32])).digest();
  return new XWing().generateKeyPairDerand(new Uint8Array(seed));
}

// curves are the signature schemes whose public keys ts-mls would compress;
// section 5.1.1 says UncompressedPointRepresentation.
const curves = { P256: p256, P384: p384, P521: p521 };

let cs; // the suite of all members of this process
let curve; // of its signatures, or undefined
const members = new Map();

function member(name) {
  const m = members.get(name);
  if (m === undefined) throw new Error(`no member ${name}`);
  return m;
}

const clientConfig = {
  // Wide enough for every order in which the tests deliver messages.
  keyRetentionConfig: { retainKeysForGenerations: 2048, retainKeysForEpochs: 1000, maximumForwardRatchetSteps: 2048 },
  lifetimeConfig: { maximumTotalLifetime: 10000000n, validateLifetimeOnReceive: true },
  keyPackageEqualityConfig: {
    // Clients are told apart by identity, as everywhere in these tests: a
    // member that comes back by an external Commit keeps its name.
    compareKeyPackages: (a, b) => sameClient(a.leafNode, b.leafNode),
    compareKeyPackageToLeafNode: (a, b) => sameClient(a.leafNode, b),
  },
  paddingConfig: { kind: "padUntilLength", padUntilLength: 64 },
  authService: {
    async validateCredential(credential) {
      return credential.credentialType === "basic" && credential.identity.length > 0;
    },
  },
};

function sameClient(a, b) {
  return base64(a.credential.identity) === base64(b.credential.identity);
}

// found makes the PSKs of a command, and the group's own resumption PSKs,
// findable.
function found(m, psks) {
  return mls.makePskIndex(m.state, Object.fromEntries((psks ?? []).map((p) => [p.id, bytes(p.secret)])));
}

function extensionsOf(list) {
  return (list ?? []).map((e) => ({ extensionType: e.type, extensionData: bytes(e.data) }));
}

function proposalOf(p) {
  switch (p.type) {
    case "add":
      return { proposalType: "add", add: { keyPackage: parse(p.keyPackage, "mls_key_package").keyPackage } };
    case "remove":
      return { proposalType: "remove", remove: { removed: p.leaf } };
    case "external psk":
      return {
        proposalType: "psk",
        psk: { preSharedKeyId: { psktype: "external", pskId: bytes(p.id), pskNonce: cs.rng.randomBytes(cs.kdf.size) } },
      };
    case "resumption psk":
      return {
        proposalType: "psk",
        psk: {
          preSharedKeyId: {
            psktype: "resumption",
            usage: "application",
            pskGroupId: bytes(p.group),
            pskEpoch: BigInt(p.epoch),
            pskNonce: cs.rng.randomBytes(cs.kdf.size),
          },
        },
      };
    case "extensions":
      return { proposalType: "group_context_extensions", groupContextExtensions: { extensions: extensionsOf(p.extensions) } };
  }
  throw new Error(`no proposal ${p.type}`);
}

// updateOf makes an Update of the own leaf (section 12.1.2), which ts-mls can
// process but offers no function for.
async function updateOf(m) {
  const leafIndex = m.state.privatePath.leafIndex;
  const old = m.state.ratchetTree[2 * leafIndex].leaf;
  const keys = await cs.hpke.generateKeyPair();
  const tbs = {
    leafNodeSource: "update",
    hpkePublicKey: await cs.hpke.exportPublicKey(keys.publicKey),
    signaturePublicKey: old.signaturePublicKey,
    credential: old.credential,
    capabilities: old.capabilities,
    extensions: old.extensions,
    groupId: m.state.groupContext.groupId,
    leafIndex,
  };
  const signature = await signWithLabel(m.state.signaturePrivateKey, "LeafNodeTBS", encode(leafNodeTBSEncoder)(tbs), cs.signature);
  const { groupId: _, leafIndex: __, ...leafNode } = tbs;
  return {
    proposal: { proposalType: "update", update: { leafNode: { ...leafNode, signature } } },
    key: await cs.hpke.exportPrivateKey(keys.privateKey),
  };
}

// committable returns the state with those of its proposals that a Commit of
// this member may hold. Section 12.2 leaves the choice to the committer;
// ts-mls takes all and then refuses its own Commit.
function committable(state) {
  const own = state.privatePath.leafIndex;
  const all = Object.entries(state.unappliedProposals);
  const removed = new Set();
  const updated = new Set();
  const keep = new Set();
  for (const [ref, { proposal: p }] of all) {
    if (p.proposalType !== "remove" || p.remove.removed === own || removed.has(p.remove.removed)) continue;
    removed.add(p.remove.removed);
    keep.add(ref);
  }
  for (const [ref, { proposal: p, senderLeafIndex: sender }] of all.toReversed()) {
    if (p.proposalType !== "update" || sender === own || removed.has(sender) || updated.has(sender)) continue;
    updated.add(sender);
    keep.add(ref);
  }
  const kept = all.filter(([ref, { proposal: p }]) => keep.has(ref) || (p.proposalType !== "remove" && p.proposalType !== "update"));
  return { ...state, unappliedProposals: Object.fromEntries(kept) };
}

async function processed(m, state, message, index, callback) {
  // processMessage would not pass the PSKs on to a PrivateMessage.
  return message.wireformat === "mls_public_message"
    ? { kind: "newState", ...(await mls.processPublicMessage(state, message.publicMessage, index, cs, callback)) }
    : mls.processPrivateMessage(state, message.privateMessage, index, cs, callback);
}

export const commands = {
  async suites() {
    return { suites: Object.entries(mls.ciphersuites).map(([name, id]) => ({ id, name })), privateUse: Object.keys(privateUse) };
  },

  // suite chooses the suite; definition names one of privateUse.
  async suite({ id, definition }) {
    const name = Object.entries(mls.ciphersuites).find(([, n]) => n === id)?.[0];
    const suite = definition ? { ...privateUse[definition], name: String(id) } : mls.getCiphersuiteFromName(name);
    cs = await mls.getCiphersuiteImpl(suite);
    if (definition && suite.hpke.kem === "X-Wing") cs.hpke.deriveKeyPair = deriveXWing;
    curve = curves[suite.signature];
  },

  async keyPackage({ name, notBefore, notAfter, extensions }) {
    const capabilities = mls.defaultCapabilities();
    capabilities.extensions.push(...extensions);
    capabilities.ciphersuites.push(cs.name);
    const keys = await cs.signature.keygen();
    if (curve) keys.publicKey = curve.getPublicKey(keys.signKey, false);
    const kp = await mls.generateKeyPackageWithKey(
      { credentialType: "basic", identity: new TextEncoder().encode(name) },
      capabilities,
      { notBefore: BigInt(notBefore), notAfter: BigInt(notAfter) },
      [],
      keys,
      cs,
    );
    members.set(name, { kp, updates: new Map() });
    return { keyPackage: wire("mls_key_package", "keyPackage", kp.publicPackage) };
  },

  async create({ name, group, extensions }) {
    const m = member(name);
    m.state = await mls.createGroup(bytes(group), m.kp.publicPackage, m.kp.privatePackage, extensionsOf(extensions), cs, clientConfig);
  },

  async join({ name, welcome, tree, psks }) {
    const m = member(name);
    m.state = await mls.joinGroup(
      parse(welcome, "mls_welcome").welcome,
      m.kp.publicPackage,
      m.kp.privatePackage,
      found(m, psks),
      cs,
      tree ? decodeRatchetTree(bytes(tree), 0)[0] : undefined,
      undefined,
      clientConfig,
    );
  },

  // joinExternal joins by an external Commit, which replaces an earlier leaf
  // of the same client if resync is set.
  async joinExternal({ name, groupInfo, resync }) {
    const m = member(name);
    const info = parse(groupInfo, "mls_group_info").groupInfo;
    const r = await mls.joinGroupExternal(info, m.kp.publicPackage, m.kp.privatePackage, resync, cs, undefined, clientConfig);
    m.staged = r.newState;
    return { commit: wire("mls_public_message", "publicMessage", r.publicMessage) };
  },

  // proposeSelf proposes to add the member, as new_member_proposal.
  async proposeSelf({ name, groupInfo }) {
    const m = member(name);
    const info = parse(groupInfo, "mls_group_info").groupInfo;
    const r = await mls.proposeAddExternal(info, m.kp.publicPackage, m.kp.privatePackage, cs);
    return { message: base64(mls.encodeMlsMessage(r)) };
  },

  async groupInfo({ name }) {
    const info = await mls.createGroupInfoWithExternalPubAndRatchetTree(member(name).state, [], cs);
    return { groupInfo: wire("mls_group_info", "groupInfo", info) };
  },

  async propose({ name, proposal, asPublic }) {
    const m = member(name);
    const update = proposal.type === "update" ? await updateOf(m) : undefined;
    const r = await mls.createProposal(m.state, asPublic, update?.proposal ?? proposalOf(proposal), cs);
    m.state = r.newState;
    if (update) m.updates.set(base64(update.proposal.update.leafNode.hpkePublicKey), update.key);
    return { message: base64(mls.encodeMlsMessage(r.message)) };
  },

  async commit({ name, proposals, psks, asPublic, treeInside }) {
    const m = member(name);
    const r = await mls.createCommit(
      { state: committable(m.state), cipherSuite: cs, pskIndex: found(m, psks) },
      { wireAsPublicMessage: asPublic, extraProposals: (proposals ?? []).map(proposalOf), ratchetTreeExtension: treeInside },
    );
    m.staged = r.newState;
    return {
      commit: base64(mls.encodeMlsMessage(r.commit)),
      welcome: r.welcome && wire("mls_welcome", "welcome", r.welcome),
      tree: treeInside ? undefined : base64(encodeRatchetTree(r.newState.ratchetTree)),
    };
  },

  async merge({ name }) {
    const m = member(name);
    m.state = m.staged;
    m.staged = undefined;
    m.updates.clear();
  },

  async drop({ name }) {
    member(name).staged = undefined;
  },

  // process handles any message; a Commit takes effect at once.
  async process({ name, message, psks }) {
    const m = member(name);
    const parsed = parse(message, "mls_public_message", "mls_private_message");
    const index = found(m, psks);
    let state = m.state;
    if (m.updates.size > 0) {
      // ts-mls does not keep the key of an own Update (section 12.1.2): look
      // first whether the Commit holds one, and put its key in place.
      let own;
      const look = (incoming) => {
        if (incoming.kind === "proposal") return "accept";
        for (const { proposal: p, senderLeafIndex } of incoming.proposals) {
          if (p.proposalType === "update" && senderLeafIndex === state.privatePath.leafIndex) {
            own = m.updates.get(base64(p.update.leafNode.hpkePublicKey));
            if (own === undefined) throw new Error("commit holds an unknown update of this member");
          }
        }
        return "reject";
      };
      await processed(m, state, parsed, index, look);
      if (own !== undefined) state = { ...state, privatePath: updateLeafKey(state.privatePath, own) };
    }
    const before = state.groupContext.epoch;
    const r = await processed(m, state, parsed, index);
    m.state = r.newState;
    if (m.state.groupContext.epoch !== before) {
      m.updates.clear();
      m.staged = undefined;
    }
    return r.kind === "applicationMessage" ? { plaintext: base64(r.message) } : {};
  },

  async protect({ name, plaintext, authenticatedData }) {
    const m = member(name);
    const r = await mls.createApplicationMessage(m.state, bytes(plaintext), cs, bytes(authenticatedData));
    m.state = r.newState;
    return { message: wire("mls_private_message", "privateMessage", r.privateMessage) };
  },

  async view({ name, label, context, length }) {
    const { state: s } = member(name);
    return {
      epoch: Number(s.groupContext.epoch),
      leaf: s.privatePath.leafIndex,
      left: s.groupActiveState.kind === "removedFromGroup",
      authenticator: base64(s.keySchedule.epochAuthenticator),
      exported: base64(await mls.mlsExporter(s.keySchedule.exporterSecret, label, bytes(context), length, cs)),
      extensions: s.groupContext.extensions.map((e) => ({ type: e.extensionType, data: base64(e.extensionData) })),
      members: s.ratchetTree.flatMap((n, i) =>
        n?.nodeType === "leaf" ? [{ leaf: i / 2, name: Buffer.from(n.leaf.credential.identity).toString() }] : [],
      ),
    };
  },

  async forget({ name }) {
    members.delete(name);
  },
};
