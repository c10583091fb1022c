// A module loader hook that corrects ts-mls where it departs from RFC 9420 in a
// way that a caller cannot work around. Each entry names the rule. The version
// of ts-mls is pinned, so an entry that does not fit any more is an error.

const corrections = [
  {
    // Section 12.4.3.1: every non-blank node *between* an unmerged leaf and the
    // parent that lists it must list it too. ts-mls asks that all nodes above
    // the leaf have equal lists, and so refuses most groups that grew twice.
    file: "clientState.js",
    from: "for (const parentIdx of dp) {",
    to: "for (const parentIdx of dp.slice(0, Math.max(0, dp.indexOf(toNodeIndex(i))))) {",
  },
  {
    file: "clientState.js",
    from: "if (!arraysEqual(dpNode.parent.unmergedLeaves, n.parent.unmergedLeaves))",
    to: "if (!dpNode.parent.unmergedLeaves.includes(unmergedLeaf))",
  },
  {
    // Section 17.4, column "Path Required": GroupContextExtensions needs a path.
    file: "clientState.js",
    from: "|| Object.values(grouped.remove).length > 0;",
    to: "|| Object.values(grouped.remove).length > 0 || grouped.group_context_extensions.length > 0;",
  },
  {
    // Section 7.4: the commit secret follows the last node of the filtered
    // direct path. If the root is not on that path, because the other half of
    // the tree is empty, ts-mls derives one step too many.
    file: "pathSecrets.js",
    from: 'const nextSecret = await deriveSecret(pathSecrets[currentIndex], "path", kdf);',
    to: 'const nextSecret = tree[nextIndex] === undefined ? pathSecrets[currentIndex] : await deriveSecret(pathSecrets[currentIndex], "path", kdf);',
  },
  {
    // Section 12.4.1: path secrets are encrypted in the provisional
    // GroupContext, which has the new extensions.
    file: "createCommit.js",
    from: "toLeafIndex(state.privatePath.leafIndex), state.groupContext, state.signaturePrivateKey, cipherSuite, excludeNodes)",
    to: `toLeafIndex(state.privatePath.leafIndex), {
      ...state.groupContext,
      extensions: res.additionalResult.extensions?.length > 0 ? res.additionalResult.extensions : state.groupContext.extensions,
    }, state.signaturePrivateKey, cipherSuite, excludeNodes)`,
  },
  {
    // Section 12.3: a Commit may add a member at the leaf that it removed this
    // one from; this one is gone all the same.
    file: "clientState.js",
    from: "mutatedTree[leafToNodeIndex(toLeafIndex(state.privatePath.leafIndex))] === undefined;",
    to: "grouped.remove.some((r) => r.proposal.remove.removed === state.privatePath.leafIndex);",
  },
  {
    // Section 12.4.3.2: external_pub holds a struct ExternalPub, so the key is
    // preceded by its length.
    file: "createCommit.js",
    from: 'import { encode } from "./codec/tlsEncoder.js";',
    to: 'import { encode } from "./codec/tlsEncoder.js"; import { decodeVarLenData, varLenDataEncoder } from "./codec/variableLength.js";',
  },
  {
    file: "createCommit.js",
    from: "exportSecret(externalPub.extensionData, cs)",
    to: "exportSecret(decodeVarLenData(externalPub.extensionData, 0)[0], cs)",
  },
  {
    file: "createCommit.js",
    from: '{ extensionType: "external_pub", extensionData: externalPub },',
    to: '{ extensionType: "external_pub", extensionData: encode(varLenDataEncoder)(externalPub) },',
  },
];

export async function load(url, context, nextLoad) {
  const loaded = await nextLoad(url, context);
  const [, file] = url.match(/\/node_modules\/ts-mls\/dist\/src\/([^/]+\.js)$/) ?? [];
  let source = null;
  for (const c of corrections) {
    if (c.file !== file) continue;
    source ??= loaded.source.toString();
    if (source.split(c.from).length !== 2) throw new Error(`correction does not fit ts-mls: ${c.file}: ${c.from}`);
    source = source.replace(c.from, () => c.to);
  }
  return source === null ? loaded : { ...loaded, source };
}
