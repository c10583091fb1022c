// Composition: the real compose window, driven as its buttons would.
import { MailServices } from "resource:///modules/MailServices.sys.mjs";
import { events, openWindows, record } from "resource://tbdriver/events.sys.mjs";
import { account, folder, message, msgWindow } from "resource://tbdriver/objects.sys.mjs";
import { sleep, statusName, until, withTimeout } from "resource://tbdriver/waiting.sys.mjs";

export const compose = {
  // mode: new | reply | replyAll | forward | editDraft
  // action: send | sendLater | draft | leave
  async compose({
    account: email,
    mode = "new",
    folder: origFolder,
    id,
    to,
    cc,
    bcc,
    subject,
    text,
    html,
    attachments = [],
    action = "send",
    timeout = 60000,
  }) {
    const acc = account(email);
    const params = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
    const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
    params.identity = acc.defaultIdentity;
    params.composeFields = fields;
    params.format = html ? Ci.nsIMsgCompFormat.HTML : Ci.nsIMsgCompFormat.PlainText;
    const T = Ci.nsIMsgCompType;
    params.type = {
      new: T.New,
      reply: T.ReplyToSender,
      replyAll: T.ReplyAll,
      forward: T.ForwardAsAttachment,
      editDraft: T.Draft,
    }[mode];
    let original = null;
    if (mode != "new") {
      original = message(folder(origFolder, email), id);
      params.originalMsgURI = original.folder.getUriForMsg(original);
      params.origMsgHdr = original;
    }
    for (const [k, v] of Object.entries({ to, cc, bcc })) {
      if (v !== undefined) {
        fields[k] = [].concat(v).join(",");
      }
    }
    if (subject !== undefined) {
      fields.subject = subject;
    }

    const since = events.length;
    let win;
    if (mode == "editDraft") {
      const before = new Set(openWindows());
      MailServices.compose.OpenComposeWindow(
        null, original, params.originalMsgURI, T.Draft, Ci.nsIMsgCompFormat.Default,
        acc.defaultIdentity, null, msgWindow());
      win = await until("the compose window", timeout, () =>
        openWindows().find(w => !before.has(w) && w.location.href.includes("messengercompose.xhtml")));
    } else {
      win = Services.ww.openWindow(
        null,
        "chrome://messenger/content/messengercompose/messengercompose.xhtml",
        "_blank",
        "all,chrome,dialog=no,status,toolbar",
        params
      );
    }
    await until("the compose editor", timeout, () => win.composeEditorReady);
    if (mode != "new") {
      for (const k of ["to", "cc", "bcc"]) {
        const v = { to, cc, bcc }[k];
        if (v !== undefined) {
          win.SetComposeDetails({ [k]: [].concat(v).join(",") });
        }
      }
      if (subject !== undefined) {
        win.SetComposeDetails({ subject });
      }
    }
    const editor = win.GetCurrentEditor();
    if (html) {
      editor.beginningOfDocument();
      editor.insertHTML(html);
    } else if (text) {
      editor.beginningOfDocument();
      win.GetCurrentEditor().QueryInterface(Ci.nsIEditorMailSupport).insertTextWithQuotations(text);
    }
    if (attachments.length) {
      await win.AddAttachments(
        attachments.map(a => {
          const path = typeof a == "string" ? a : a.path;
          const f = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
          f.initWithPath(path);
          const at = win.FileToAttachment(f);
          if (a.name) {
            at.name = a.name;
          }
          if (a.contentType) {
            at.contentType = a.contentType;
          }
          return at;
        })
      );
    }
    win.gContentChanged = true;
    if (action == "leave") {
      return { opened: true, title: win.document.title };
    }

    // From here on the window does what a user's click makes it do.
    const result = { action, ok: false };
    const sink = Promise.withResolvers();
    const listener = {
      QueryInterface: ChromeUtils.generateQI(["nsIMsgSendListener"]),
      onStartSending() {},
      onProgress() {},
      onStatus() {},
      onStopSending(msgID, status) {
        result.messageId = msgID?.replace(/^<|>$/g, "");
        if (!Components.isSuccessCode(status)) {
          failure = status;
          sink.resolve({ status });
        }
      },
      onGetDraftFolderURI(msgID, folderURI) {
        result.messageId = msgID?.replace(/^<|>$/g, "");
        result.savedIn = folderURI;
      },
      onSendNotPerformed(_id, status) {
        sink.resolve({ status });
      },
      onTransportSecurityError(_id, status, secInfo, location) {
        record("certificate-error", { host: location, error: secInfo?.errorCodeString, message: secInfo?.errorMessage });
        sink.resolve({ status });
      },
    };
    const progressStop = {
      observe(subject2) {
        if (subject2.wrappedJSObject?.composeWindow == win) {
          sink.resolve({ status: Cr.NS_OK });
        }
      },
    };
    const prepared = event => {
      if (event.detail?.exception) {
        sink.resolve({ status: Cr.NS_ERROR_ABORT, reason: event.detail.exception.message });
      }
    };
    Services.obs.addObserver(progressStop, "mail:composeSendProgressStop");
    win.addEventListener("compose-prepare-message-completed", prepared);
    win.gMsgCompose.addMsgSendListener(listener);
    const t0 = Date.now();
    let outcome;
    let failure = null;
    try {
      switch (action) {
        case "send":
          win.SendMessage();
          break;
        case "sendLater":
          win.SendMessageLater();
          break;
        case "draft":
          win.SaveAsDraft();
          break;
        default:
          throw new Error(`unknown action ${action}`);
      }
      outcome = await withTimeout(sink.promise, timeout, action);
      // The end of the progress display also comes before an error dialog. A
      // message that was sent closes its window; one that failed shows why.
      const told = () => events.some(e => e.seq > since && e.type == "dialog");
      await until("the end", action == "draft" ? 300 : 5000, () => told() || failure !== null || (action != "draft" && win.closed)).catch(() => {});
      if (failure !== null) {
        outcome = { status: failure };
      } else if (action != "draft" && !win.closed && Components.isSuccessCode(outcome.status)) {
        outcome = { status: Cr.NS_ERROR_FAILURE, reason: "the compose window stayed open" };
      }
    } finally {
      Services.obs.removeObserver(progressStop, "mail:composeSendProgressStop");
      if (!win.closed) {
        win.gMsgCompose?.removeMsgSendListener(listener);
      }
    }
    result.ms = Date.now() - t0;
    result.ok = Components.isSuccessCode(outcome.status);
    if (!result.ok) {
      result.status = statusName(outcome.status);
      result.reason = outcome.reason;
      // Let an error dialog come up before reporting what it said.
      await until("an error dialog", 3000, () => events.some(e => e.seq > since && e.type == "dialog")).catch(() => {});
      await sleep(200);
    }
    result.shown = events.filter(e => e.seq > since && ["dialog", "alert", "certificate-error"].includes(e.type));
    if (!win.closed) {
      win.gContentChanged = false;
      if (action != "send" || !result.ok) {
        win.close();
      }
    }
    return result;
  },

  closeComposers() {
    let n = 0;
    for (const w of openWindows()) {
      if (w.location.href.includes("messengercompose.xhtml")) {
        w.gContentChanged = false;
        w.close();
        n++;
      }
    }
    return { closed: n };
  },
};
