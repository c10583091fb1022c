// Messages: listing, reading, moving, marking, searching.
import { MailServices } from "resource:///modules/MailServices.sys.mjs";
import { latin1, sha256, streamUri, stripStoreHeaders, write } from "resource://tbdriver/content.sys.mjs";
import { events } from "resource://tbdriver/events.sys.mjs";
import { FOLDER, arrived, describe, folder, mainWindow, message, msgWindow, pathOf } from "resource://tbdriver/objects.sys.mjs";
import { copyListener, sleep, statusName, until, withTimeout } from "resource://tbdriver/waiting.sys.mjs";

export const messages = {
  list({ folder: name, account: email } = {}) {
    const f = folder(name, email);
    return [...f.messages].map(describe).sort((a, b) => a.uid - b.uid);
  },

  // Resolves when a message (matching `subject` or `messageId`, if given)
  // arrives in the folder after event number `since`. Sends nothing itself.
  async waitNew({ folder: name = "inbox", account: email, since, subject, messageId, timeout = 30000 } = {}) {
    const f = folder(name, email);
    const from = since ?? events.length;
    const t0 = Date.now();
    const e = await until("a new message", timeout, () =>
      events.find(
        x =>
          x.type == "message-added" &&
          x.seq > from &&
          x.folder == f.URI &&
          (!subject || x.subject == subject) &&
          (!messageId || x.messageId == messageId.replace(/^<|>$/g, ""))
      )
    );
    return { ...e, waitedMs: Date.now() - t0 };
  },

  // Opens the message in a tab of the main window and returns what it shows.
  async read({ folder: name, account: email, id, timeout = 60000, close = true, saveTo, remote } = {}) {
    const hdr = message(folder(name, email), id);
    const uri = hdr.folder.getUriForMsg(hdr);
    const tabmail = mainWindow().document.getElementById("tabmail");
    const tab = tabmail.openTab("mailMessageTab", { messageURI: uri });
    try {
      const win = await until("the message pane", timeout, () => {
        const w = tab.chromeBrowser?.contentWindow;
        return w && w.location.href.startsWith("about:message") && w.msgLoaded && w.gMessage ? w : null;
      });
      await until("the attachment list", 5000, () => !win.gBuildAttachmentsForCurrentMsg || true);
      const browser = win.getMessagePaneBrowser();
      const doc = browser.contentDocument;
      await until("the message body", timeout, () => doc.readyState == "complete" || doc.readyState == "interactive");
      // A row of the header has its name, for screen readers, before the value.
      const header = id2 => {
        const row = win.document.getElementById(id2);
        const name = row?.querySelector(".row-heading")?.textContent ?? "";
        return row?.textContent?.replace(name, "").trim() || undefined;
      };
      const attachments = [];
      for (const a of win.currentAttachments) {
        const entry = { name: a.name, contentType: a.contentType, partID: a.partID, listedSize: a.size };
        if (remote !== false && !a.isDeleted) {
          const bytes = new Uint8Array(await a.fetchAttachment());
          entry.size = bytes.length;
          entry.sha256 = await sha256(bytes);
          if (saveTo) {
            await write(PathUtils.join(saveTo, a.name.replaceAll("/", "_")), bytes);
          }
        }
        attachments.push(entry);
      }
      return {
        ...describe(hdr),
        shownSubject: header("expandedsubjectBox"),
        shownFrom: header("expandedfromBox"),
        shownTo: header("expandedtoBox"),
        shownNotifications: [...win.document.querySelectorAll("notification-message")].map(n =>
          (n.shadowRoot?.querySelector(".message")?.textContent ?? n.textContent).trim()
        ),
        // Not the header block for printing, which is hidden only once the
        // style sheet is there.
        body: ([...doc.querySelectorAll(".moz-text-plain, .moz-text-flowed, .moz-text-html")]
          .map(e => e.innerText)
          .join("\n") || doc.body.innerText),
        html: doc.body.innerHTML.length,
        attachments,
      };
    } finally {
      if (close) {
        tabmail.closeTab(tab);
      }
    }
  },

  async source({ folder: name, account: email, id, saveTo, timeout = 120000 } = {}) {
    const hdr = message(folder(name, email), id);
    const bytes = stripStoreHeaders(await withTimeout(streamUri(hdr.folder.getUriForMsg(hdr)), timeout, "source"));
    if (saveTo) {
      await write(saveTo, bytes);
      return { path: saveTo, size: bytes.length, sha256: await sha256(bytes) };
    }
    return { size: bytes.length, sha256: await sha256(bytes), source: latin1(bytes) };
  },

  async headers(args) {
    const { source } = await messages.source(args);
    const end = source.search(/\r?\n\r?\n/);
    const raw = end < 0 ? source : source.slice(0, end);
    const list = raw
      .replace(/\r?\n(?=[ \t])/g, "")
      .split(/\r?\n/)
      .map(l => l.match(/^([^:]+):\s*(.*)$/))
      .filter(Boolean)
      .map(m => [m[1], m[2]]);
    return { raw, list };
  },

  async move({ folder: name, account: email, id, to, toAccount, copy = false, timeout = 60000 }) {
    const src = folder(name, email);
    const dst = folder(to, toAccount ?? email);
    const hdrs = [].concat(id).map(i => message(src, i));
    const l = copyListener();
    const ids = hdrs.map(h => h.messageId);
    MailServices.copy.copyMessages(src, hdrs, dst, !copy, l, msgWindow(), true);
    await withTimeout(l.promise, timeout, "move");
    return { moved: hdrs.length, to: pathOf(dst), uids: await arrived(dst, ids, timeout) };
  },

  async delete({ folder: name, account: email, id, permanently = false, timeout = 60000 }) {
    const src = folder(name, email);
    const hdrs = [].concat(id).map(i => message(src, i));
    const ids = hdrs.map(h => h.messageId);
    const l = copyListener();
    src.deleteMessages(hdrs, msgWindow(), permanently, false, l, true);
    await withTimeout(l.promise, timeout, "delete");
    const trash = permanently ? null : src.server.rootFolder.getFolderWithFlags(FOLDER.Trash);
    return {
      deleted: hdrs.length,
      uids: trash && trash.URI != src.URI ? await arrived(trash, ids, timeout) : undefined,
    };
  },

  async mark_({ folder: name, account: email, id, read, flagged, junk, timeout = 5000 }) {
    const f = folder(name, email);
    const hdrs = [].concat(id).map(i => message(f, i));
    if (read !== undefined) {
      f.markMessagesRead(hdrs, read);
    }
    if (flagged !== undefined) {
      f.markMessagesFlagged(hdrs, flagged);
    }
    if (junk !== undefined) {
      f.setJunkScoreForMessages(hdrs, junk ? "100" : "0", "user", -1);
    }
    // Thunderbird sends flag changes without telling when: give it a moment.
    await sleep(Math.min(timeout, 700));
    return hdrs.map(describe);
  },

  // Search on the server ("Run search on server" in Search Messages).
  async search({ folder: name, account: email, body, subject, from, timeout = 30000 }) {
    const f = folder(name, email);
    const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
    session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, f);
    for (const [attr, text] of [
      [Ci.nsMsgSearchAttrib.Body, body],
      [Ci.nsMsgSearchAttrib.Subject, subject],
      [Ci.nsMsgSearchAttrib.Sender, from],
    ]) {
      if (text) {
        const term = session.createTerm();
        term.attrib = attr;
        term.op = Ci.nsMsgSearchOp.Contains;
        const v = term.value;
        v.attrib = attr;
        v.str = text;
        term.value = v;
        term.booleanAnd = true;
        session.appendTerm(term);
      }
    }
    const hits = [];
    await withTimeout(
      new Promise((resolve, reject) => {
        session.registerListener({
          QueryInterface: ChromeUtils.generateQI(["nsIMsgSearchNotify"]),
          onSearchHit(hdr) {
            hits.push(hdr);
          },
          onSearchDone(status) {
            Components.isSuccessCode(status) ? resolve() : reject(new Error(statusName(status)));
          },
          onNewSearch() {},
        });
        session.search(msgWindow());
      }),
      timeout,
      "search"
    );
    return hits.map(describe);
  },
};
