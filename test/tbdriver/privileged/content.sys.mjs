// The octets of messages.
import { MailServices } from "resource:///modules/MailServices.sys.mjs";
import { msgWindow } from "resource://tbdriver/objects.sys.mjs";
import { statusName } from "resource://tbdriver/waiting.sys.mjs";

export async function sha256(bytes) {
  const h = Cc["@mozilla.org/security/hash;1"].createInstance(Ci.nsICryptoHash);
  h.init(Ci.nsICryptoHash.SHA256);
  for (let i = 0; i < bytes.length; i += 1 << 20) {
    const part = bytes.subarray(i, i + (1 << 20));
    h.update(part, part.length);
  }
  return Array.from(h.finish(false), c => c.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}

export function streamUri(uri, { header = false } = {}) {
  const svc = MailServices.messageServiceFromURI(uri);
  return new Promise((resolve, reject) => {
    const chunks = [];
    const listener = {
      QueryInterface: ChromeUtils.generateQI(["nsIStreamListener", "nsIRequestObserver"]),
      onStartRequest() {},
      onDataAvailable(_r, stream, _o, count) {
        const b = Cc["@mozilla.org/binaryinputstream;1"].createInstance(Ci.nsIBinaryInputStream);
        b.setInputStream(stream);
        const buf = new ArrayBuffer(count);
        b.readArrayBuffer(count, buf);
        chunks.push(new Uint8Array(buf));
      },
      onStopRequest(_r, status) {
        if (!Components.isSuccessCode(status)) {
          reject(new Error(`streaming the message: ${statusName(status)}`));
          return;
        }
        const n = chunks.reduce((s, c) => s + c.length, 0);
        const all = new Uint8Array(n);
        let o = 0;
        for (const c of chunks) {
          all.set(c, o);
          o += c.length;
        }
        resolve(all);
      },
    };
    if (header) {
      svc.streamHeaders(uri, listener, null, false);
    } else {
      svc.streamMessage(uri, listener, msgWindow(), null, false, "", false);
    }
  });
}

export function latin1(bytes) {
  let s = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    s += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return s;
}

export function write(path, bytes) {
  return IOUtils.write(path, bytes);
}

// The local store puts its own headers in front of a message.
export function stripStoreHeaders(bytes) {
  const head = latin1(bytes.subarray(0, 1024));
  const m = head.match(/^(From [^\n]*\r?\n)?((X-Mozilla-Status2?|X-Mozilla-Keys):[^\n]*\r?\n)*/);
  return bytes.subarray(m[0].length);
}
