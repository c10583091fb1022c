// What a user of this Thunderbird has noticed so far, and who answers dialogs.
import { MailServices } from "resource:///modules/MailServices.sys.mjs";
import { setInterval, setTimeout } from "resource://gre/modules/Timer.sys.mjs";

// Everything a user would have noticed: dialogs, alerts, certificate errors,
// arrived messages. `seq` grows by one with each event.
export const events = [];
let dialogPolicy = "cancel";

// What to press in dialogs: "accept", "cancel" or "leave" (untouched).
export function setDialogPolicy(policy) {
  dialogPolicy = policy;
}

export function record(type, data = {}) {
  const e = { seq: events.length + 1, time: new Date().toISOString(), type, ...data };
  events.push(e);
  return e;
}

export function openWindows() {
  return [...Services.wm.getEnumerator(null)];
}

const dialogObserver = {
  observe(subject, topic) {
    if (topic == "common-dialog-loaded") {
      const win = subject.ownerGlobal?.Dialog ? subject.ownerGlobal : subject;
      const { args, ui } = win.Dialog ?? {};
      const buttons = ["accept", "cancel", "extra1", "extra2"]
        .map((_, i) => ui?.[`button${i}`])
        .filter(b => b && !b.hidden)
        .map(b => b.label || b.getAttribute("label"));
      record("dialog", {
        kind: args?.promptType,
        title: args?.title,
        text: args?.text,
        checkbox: args?.checkLabel || undefined,
        buttons,
        answer: dialogPolicy,
      });
      if (dialogPolicy == "leave") {
        return;
      }
      // A confirmation has its buttons disabled for a moment.
      const press = () => {
        try {
          const b = dialogPolicy == "accept" || !ui.button1 || ui.button1.hidden ? ui.button0 : ui.button1;
          b.disabled = false;
          b.click();
        } catch (e) {
          record("driver-error", { text: String(e) });
        }
      };
      setTimeout(press, 50);
    } else if (topic == "domwindowopened") {
      subject.addEventListener(
        "load",
        () => {
          const url = subject.location.href;
          if (/exceptionDialog/.test(url)) {
            const text = () =>
              ["headerDescription", "statusDescription", "statusLongDescription", "status2Description", "warningText"]
                .map(id => subject.document.getElementById(id)?.textContent)
                .filter(Boolean)
                .join("\n");
            setTimeout(() => {
              record("certificate-dialog", {
                location: subject.document.getElementById("locationTextBox")?.value,
                text: text(),
              });
              if (dialogPolicy != "leave") {
                subject.close();
              }
            }, 1500);
          }
        },
        { once: true }
      );
    }
  },
};

const feedbackListener = {
  QueryInterface: ChromeUtils.generateQI(["nsIMsgUserFeedbackListener"]),
  onAlert(message, url) {
    let spec = null;
    try {
      spec = url?.spec;
    } catch {}
    record("alert", { text: message, url: spec });
    return false;
  },
  onCertError(securityInfo, uri) {
    record("certificate-error", {
      host: uri?.asciiHostPort,
      error: securityInfo?.errorCodeString,
      message: securityInfo?.errorMessage,
      category: securityInfo?.overridableErrorCategory,
    });
  },
};

const folderListener = {
  msgAdded(hdr) {
    record("message-added", {
      folder: hdr.folder.URI,
      uid: hdr.messageKey,
      messageId: hdr.messageId,
      subject: hdr.mime2DecodedSubject,
      read: hdr.isRead,
    });
  },
};

let started = false;
export function start() {
  if (started) {
    return;
  }
  started = true;
  Services.obs.addObserver(dialogObserver, "common-dialog-loaded");
  Services.ww.registerNotification(dialogObserver);
  MailServices.mailSession.addUserFeedbackListener(feedbackListener);
  MailServices.mfn.addListener(folderListener, MailServices.mfn.msgAdded);
  // Modal dialogs must not swallow the driver's own requests in an endless
  // loop; keep the timer queue awake.
  setInterval(() => {}, 1000);
}
