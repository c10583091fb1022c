// Waiting for what Thunderbird does by itself.
import { clearTimeout, setTimeout } from "resource://gre/modules/Timer.sys.mjs";

export function sleep(ms) {
  return new Promise(r => setTimeout(r, ms));
}

export async function until(what, ms, test) {
  const deadline = Date.now() + ms;
  for (;;) {
    const v = await test();
    if (v) {
      return v;
    }
    if (Date.now() > deadline) {
      throw new Error(`timed out after ${ms} ms waiting for ${what}`);
    }
    await sleep(50);
  }
}

export function withTimeout(promise, ms, what) {
  let t;
  return Promise.race([
    promise,
    new Promise((_, rej) => {
      t = setTimeout(() => rej(new Error(`timed out after ${ms} ms: ${what}`)), ms);
    }),
  ]).finally(() => clearTimeout(t));
}

export function statusName(status) {
  for (const [name, value] of Object.entries(Cr)) {
    if (value === status) {
      return name;
    }
  }
  try {
    const nss = Cc["@mozilla.org/nss_errors_service;1"].getService(Ci.nsINSSErrorsService);
    return `0x${(status >>> 0).toString(16)} (${nss.getErrorMessage(status)})`;
  } catch {}
  return `0x${(status >>> 0).toString(16)}`;
}

export function urlListener() {
  let done;
  const promise = new Promise((resolve, reject) => {
    done = (url, status) => {
      if (Components.isSuccessCode(status)) {
        resolve();
        return;
      }
      let text = "";
      try {
        text = url.QueryInterface(Ci.nsIMsgMailNewsUrl).errorMessage;
      } catch {}
      const e = new Error(`${statusName(status)}${text ? `: ${text}` : ""}`);
      reject(e);
    };
  });
  return {
    promise,
    QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
    OnStartRunningUrl() {},
    OnStopRunningUrl(url, status) {
      done(url, status);
    },
  };
}

export function copyListener() {
  let done;
  const promise = new Promise((resolve, reject) => {
    done = status => (Components.isSuccessCode(status) ? resolve() : reject(new Error(statusName(status))));
  });
  return {
    promise,
    QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
    onStartCopy() {},
    onProgress() {},
    setMessageKey() {},
    getMessageId() {
      return null;
    },
    onStopCopy(status) {
      done(status);
    },
  };
}
