// Certificates: an authority as the certificate manager's Import button adds
// it, with the question that Thunderbird asks, or without any question.
import { openWindows } from "resource://tbdriver/events.sys.mjs";
import { until } from "resource://tbdriver/waiting.sys.mjs";

function database() {
  return Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
}

function question() {
  return openWindows().find(w => w.location.href.endsWith("/downloadcert.xhtml") && w.document.readyState == "complete");
}

export const certificates = {
  importCA({ pem, trust = "CT,C,C" }) {
    let n = 0;
    for (const m of pem.matchAll(/-----BEGIN CERTIFICATE-----([\s\S]*?)-----END CERTIFICATE-----/g)) {
      database().addCertFromBase64(m[1].replace(/\s/g, ""), trust);
      n++;
    }
    return { imported: n };
  },

  // Imports an authority from a file as a user does, ticks "identify websites"
  // alone and leaves the question open, so that a picture can be taken.
  async importCAByHand({ path, timeout = 20000 }) {
    const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
    file.initWithPath(path);
    // The call returns only when the question is answered.
    Services.tm.dispatchToMainThread(() => database().importCertsFromFile(file, Ci.nsIX509Cert.CA_CERT));
    const win = await until("the question whether to trust", timeout, question);
    const box = win.document.getElementById("trustSSL");
    box.checked = true;
    return { asked: win.document.documentElement.textContent.trim().replace(/\s+/g, " ") };
  },

  // Presses OK in that question.
  async importCAAccept({ timeout = 20000 } = {}) {
    question().document.querySelector("dialog").acceptDialog();
    await until("the end of the question", timeout, () => !question());
    return { ok: true };
  },

  // Accepts one given certificate for one host and port, as "Confirm Security
  // Exception" does.
  overrideCert({ pem, host, port }) {
    const cert = database().constructX509FromBase64(
      pem.match(/-----BEGIN CERTIFICATE-----([\s\S]*?)-----END CERTIFICATE-----/)[1].replace(/\s/g, "")
    );
    Cc["@mozilla.org/security/certoverride;1"]
      .getService(Ci.nsICertOverrideService)
      .rememberValidityOverride(host, port, {}, cert, false);
    return { host, port };
  },
};
