// The program, its windows, accounts, preferences.
import { MailServices } from "resource:///modules/MailServices.sys.mjs";
import { AccountConfig } from "resource:///modules/accountcreation/AccountConfig.sys.mjs";
import { CreateInBackend } from "resource:///modules/accountcreation/CreateInBackend.sys.mjs";
import { openWindows } from "resource://tbdriver/events.sys.mjs";
import { account, msgWindow } from "resource://tbdriver/objects.sys.mjs";
import { sleep, until, urlListener, withTimeout } from "resource://tbdriver/waiting.sys.mjs";

const SECURITY = {
  none: Ci.nsMsgSocketType.plain,
  starttls: Ci.nsMsgSocketType.alwaysSTARTTLS,
  tls: Ci.nsMsgSocketType.SSL,
};
const AUTH = {
  none: Ci.nsMsgAuthMethod.none,
  plain: Ci.nsMsgAuthMethod.passwordCleartext,
  encrypted: Ci.nsMsgAuthMethod.passwordEncrypted,
};

export const setup = {
  info() {
    return {
      version: Services.appinfo.version,
      buildID: Services.appinfo.appBuildID,
      pid: Services.appinfo.processID,
      profile: Services.dirsvc.get("ProfD", Ci.nsIFile).path,
      offline: Services.io.offline,
      windows: openWindows().map(w => ({
        type: w.document.documentElement.getAttribute("windowtype"),
        url: w.location.href,
        title: w.document.title,
      })),
      accounts: MailServices.accounts.accounts.map(a => ({
        key: a.key,
        type: a.incomingServer?.type,
        server: a.incomingServer ? `${a.incomingServer.hostname}:${a.incomingServer.port}` : null,
        identities: a.identities.map(i => i.email),
      })),
    };
  },

  async addAccount({ name, email, imap, smtp, prefs = {} }) {
    const config = new AccountConfig();
    config.source = AccountConfig.kSourceUser;
    config.rememberPassword = true;
    config.identity.realname = name;
    config.identity.emailAddress = email;
    Object.assign(config.incoming, {
      type: "imap",
      hostname: imap.host,
      port: imap.port,
      socketType: SECURITY[imap.security],
      auth: AUTH[imap.auth ?? "plain"],
      username: imap.user ?? email,
      password: imap.password,
    });
    Object.assign(config.outgoing, {
      type: "smtp",
      hostname: smtp.host,
      port: smtp.port,
      socketType: SECURITY[smtp.security],
      auth: AUTH[smtp.auth ?? "plain"],
      username: smtp.user ?? imap.user ?? email,
      password: smtp.password ?? imap.password,
      addThisServer: true,
    });
    for (const s of [config.incoming, config.outgoing]) {
      if (s.socketType === undefined || s.auth === undefined) {
        throw new Error("security is none, starttls or tls; auth is none, plain or encrypted");
      }
    }
    // CreateInBackend takes an existing SMTP server with the same user and
    // host name whatever its port: make a new one then.
    const existing = MailServices.outgoingServer.findServer(
      config.outgoing.username, config.outgoing.hostname, "smtp");
    const clash = existing && existing.serverURI.port != config.outgoing.port;
    const acc = await CreateInBackend.createAccountInBackend(config);
    if (clash) {
      const s = MailServices.outgoingServer.createServer("smtp").QueryInterface(Ci.nsISmtpServer);
      s.hostname = config.outgoing.hostname;
      s.port = config.outgoing.port;
      s.socketType = config.outgoing.socketType;
      s.authMethod = config.outgoing.auth;
      s.username = config.outgoing.username;
      s.password = config.outgoing.password;
      acc.defaultIdentity.smtpServerKey = s.key;
    }
    for (const [k, v] of Object.entries(prefs)) {
      const full = `mail.server.${acc.incomingServer.key}.${k}`;
      if (typeof v == "boolean") {
        Services.prefs.setBoolPref(full, v);
      } else if (typeof v == "number") {
        Services.prefs.setIntPref(full, v);
      } else {
        Services.prefs.setStringPref(full, v);
      }
    }
    Services.prefs.savePrefFile(null);
    return { key: acc.key, server: acc.incomingServer.key, smtp: acc.defaultIdentity.smtpServerKey };
  },

  setPref({ name, value }) {
    if (value === null) {
      Services.prefs.clearUserPref(name);
    } else if (typeof value == "boolean") {
      Services.prefs.setBoolPref(name, value);
    } else if (typeof value == "number") {
      Services.prefs.setIntPref(name, value);
    } else {
      Services.prefs.setStringPref(name, value);
    }
    return { name, value };
  },

  // Verifies log-in with the account's settings; fails as the user would see.
  async login({ account: email, timeout = 20000 } = {}) {
    const l = urlListener();
    const server = account(email).incomingServer;
    server.verifyLogon(l, msgWindow());
    try {
      await withTimeout(l.promise, timeout, "log-in");
    } finally {
      // A connection made for this check is only half set up (no ID, COMPRESS,
      // ENABLE; it even sends UTF8 literals to servers without UTF8=ACCEPT).
      // The account hub throws it away too.
      server.closeCachedConnections();
    }
    return { ok: true };
  },

  // Runs the account hub's look-ups for an e-mail address and returns what
  // they found; used to see which URLs are asked.
  async autoconfig({ email, timeout = 60000, guess = false }) {
    const { FindConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/FindConfig.sys.mjs");
    const { GuessConfig } = ChromeUtils.importESModule("resource:///modules/accountcreation/GuessConfig.sys.mjs");
    const domain = email.split("@")[1];
    const ctl = new AbortController();
    const plain = c =>
      c && {
        source: c.source,
        subSource: c.subSource,
        incoming: c.incoming && { ...c.incoming, password: undefined },
        outgoing: c.outgoing && { ...c.outgoing, password: undefined },
      };
    const run = async () => {
      const gen = FindConfig.parallelAutoDiscovery(domain, email, ctl.signal);
      let r = await gen.next();
      while (!r.done) {
        r = await gen.next({ acceptRedirect: false });
      }
      if (r.value) {
        return { found: plain(r.value) };
      }
      if (!guess) {
        return { found: null };
      }
      const tried = [];
      const g = await GuessConfig.guessConfig(
        domain,
        (type, host, port, socketType, done) => tried.push({ type, host, port, socketType, done }),
        null,
        "both",
        ctl.signal
      ).catch(e => ({ error: String(e) }));
      return { found: null, guess: g.error ? g : plain(g), tried };
    };
    return withTimeout(run(), timeout, "autoconfig");
  },

  // Makes the newest window of a type (mail:3pane, msgcompose) fill the display.
  async fit({ type = "mail:3pane", timeout = 5000 }) {
    const win = Services.wm.getMostRecentWindow(type);
    if (!win) {
      throw new Error(`no window of type ${type}`);
    }
    const { width, height } = win.screen;
    win.focus();
    win.moveTo(0, 0);
    win.resizeTo(width, height);
    await until("the window's size", timeout, () => win.outerWidth == width && win.outerHeight == height);
    return { width, height };
  },

  // Waits until the newest window shows what it holds: transitions and texts
  // that are filled in later end within a second.
  async painted() {
    const win = Services.wm.getMostRecentWindow(null);
    await sleep(1000);
    await Promise.race([new Promise(r => win.requestAnimationFrame(() => win.requestAnimationFrame(r))), sleep(2000)]);
    return { title: win.document.title };
  },
};
