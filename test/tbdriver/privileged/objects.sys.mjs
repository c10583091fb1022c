// Accounts, folders and messages by the names that the driver gives them.
import { MailServices } from "resource:///modules/MailServices.sys.mjs";
import { sleep, until, urlListener } from "resource://tbdriver/waiting.sys.mjs";

const FLAG = Ci.nsMsgMessageFlags;
export const FOLDER = Ci.nsMsgFolderFlags;

const SPECIAL = [
  ["inbox", FOLDER.Inbox],
  ["sent", FOLDER.SentMail],
  ["drafts", FOLDER.Drafts],
  ["trash", FOLDER.Trash],
  ["junk", FOLDER.Junk],
  ["archive", FOLDER.Archive],
  ["templates", FOLDER.Templates],
  ["outbox", FOLDER.Queue],
];

export function mainWindow() {
  return Services.wm.getMostRecentWindow("mail:3pane");
}

export function msgWindow() {
  return mainWindow()?.msgWindow ?? null;
}

export function account(email) {
  const list = MailServices.accounts.accounts.filter(a => a.incomingServer?.type == "imap");
  const a = email
    ? list.find(x => x.identities.some(i => i.email == email) || x.key == email)
    : list[0];
  if (!a) {
    throw new Error(`no IMAP account ${email ?? ""}`);
  }
  return a;
}

// The inbox of an account, null as long as there is none.
export function folderOfAccount(email) {
  try {
    return folder("inbox", email);
  } catch {
    return null;
  }
}

// A folder is named by special use ("inbox", "sent", …), by its path on the
// server ("Work/Reports"), or by its URI.
export function folder(name = "inbox", email) {
  if (/^(imap|mailbox):\/\//.test(name)) {
    return MailServices.folderLookup.getFolderForURL(name);
  }
  if (name == "outbox") {
    const f = MailServices.accounts.localFoldersServer.rootFolder.getFolderWithFlags(FOLDER.Queue);
    if (f) {
      return f;
    }
  }
  const root = account(email).incomingServer.rootFolder;
  const all = root.descendants;
  const f =
    all.find(x => pathOf(x) == name) ??
    all.find(x => x.getFlag(SPECIAL.find(([s]) => s == name.toLowerCase())?.[1] ?? 0)) ??
    all.find(x => x.name == name);
  if (!f) {
    throw new Error(`no folder ${name}; there are: ${all.map(pathOf).join(", ")}`);
  }
  return f;
}

export function pathOf(f) {
  try {
    return f.QueryInterface(Ci.nsIMsgImapMailFolder).onlineName || f.name;
  } catch {
    return f.name;
  }
}

export function specialUse(f) {
  return SPECIAL.filter(([, bit]) => f.getFlag(bit)).map(([s]) => s);
}

// A message is named by UID (number) or by Message-ID.
export function message(f, id) {
  let hdr = null;
  if (typeof id == "number" || /^\d+$/.test(id)) {
    const db = f.msgDatabase;
    hdr = db.containsKey(Number(id)) ? db.getMsgHdrForKey(Number(id)) : null;
  } else {
    hdr = f.msgDatabase.getMsgHdrForMessageID(String(id).replace(/^<|>$/g, ""));
  }
  if (!hdr) {
    throw new Error(`no message ${id} in ${f.URI}`);
  }
  return hdr;
}

// The header's own threadId is not filled in before the database is written.
export function threadOf(hdr) {
  try {
    return hdr.folder.msgDatabase.getThreadContainingMsgHdr(hdr).threadKey;
  } catch {
    return hdr.threadId;
  }
}

export function describe(hdr) {
  const flags = [];
  for (const name of ["Read", "Replied", "Marked", "Forwarded", "Attachment", "New", "Offline", "IMAPDeleted", "Template"]) {
    if (hdr.flags & FLAG[name]) {
      flags.push(name == "Marked" ? "Flagged" : name);
    }
  }
  return {
    uid: hdr.messageKey,
    subject: ((hdr.flags & FLAG.HasRe) ? "Re: " : "") + hdr.mime2DecodedSubject,
    from: hdr.mime2DecodedAuthor,
    to: hdr.mime2DecodedRecipients,
    date: new Date(hdr.date / 1000).toISOString(),
    size: hdr.messageSize,
    flags,
    keywords: hdr.getStringProperty("keywords"),
    messageId: hdr.messageId,
    threadId: threadOf(hdr),
    threadParent: hdr.threadParent == 0xffffffff ? null : hdr.threadParent,
    references: Array.from({ length: hdr.numReferences }, (_, i) => hdr.getStringReference(i)),
    junkScore: hdr.getStringProperty("junkscore") || undefined,
  };
}

// Asks the server what is new in a folder. While Thunderbird is already doing
// so by itself it forgets to tell a second listener: ask again then.
export async function update(f, timeout) {
  const end = Date.now() + timeout;
  for (;;) {
    const l = urlListener();
    f.updateFolderWithListener(msgWindow(), l);
    const told = await Promise.race([l.promise.then(() => true), sleep(Math.min(4000, timeout))]);
    if (told) {
      return;
    }
    if (Date.now() > end) {
      throw new Error(`timed out after ${timeout} ms: sync of ${f.URI}`);
    }
  }
}

// Messages whose text is in the local store are moved "pseudo-offline": first
// locally, on the server half a second later. Waits until the server has them.
export async function arrived(f, messageIds, timeout) {
  const imap = f.QueryInterface(Ci.nsIMsgImapMailFolder);
  let uids;
  await until(`messages in ${f.URI}`, timeout, async () => {
    await update(imap, timeout).catch(() => {});
    uids = messageIds.map(i => {
      const h = f.msgDatabase.getMsgHdrForMessageID(i);
      return h && h.messageKey < 0xffffff80 && !(h.getUint32Property("pseudoHdr")) ? h.messageKey : null;
    });
    return uids.every(u => u !== null) || sleep(250).then(() => false);
  });
  return uids;
}
