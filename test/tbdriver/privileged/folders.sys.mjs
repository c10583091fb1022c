// Folders: finding, syncing, showing; going offline.
import { MailServices } from "resource:///modules/MailServices.sys.mjs";
import { FOLDER, account, folder, mainWindow, msgWindow, pathOf, specialUse, update } from "resource://tbdriver/objects.sys.mjs";
import { sleep, until, urlListener, withTimeout } from "resource://tbdriver/waiting.sys.mjs";

export const folders = {
  async folders({ account: email, discover = true, timeout = 30000 } = {}) {
    const server = account(email).incomingServer;
    if (discover) {
      const l = urlListener();
      MailServices.imap.discoverAllFolders(server.rootFolder, l, msgWindow());
      await withTimeout(l.promise, timeout, "folder discovery");
      await sleep(200);
    }
    return server.rootFolder.descendants.map(f => ({
      path: pathOf(f),
      name: f.localizedName ?? f.name,
      uri: f.URI,
      specialUse: specialUse(f),
      messages: f.getTotalMessages(false),
      unread: f.getNumUnread(false),
      selectable: !f.getFlag(FOLDER.ImapNoselect),
    }));
  },

  async sync({ folder: name, account: email, timeout = 60000 } = {}) {
    const f = folder(name, email).QueryInterface(Ci.nsIMsgImapMailFolder);
    await update(f, timeout);
    return { folder: pathOf(f), messages: f.getTotalMessages(false), unread: f.getNumUnread(false) };
  },

  // "Get Messages" as the toolbar button does it.
  async getMessages({ account: email, timeout = 60000 } = {}) {
    const inbox = folder("inbox", email);
    const l = urlListener();
    inbox.getNewMessages(msgWindow(), l);
    await withTimeout(l.promise, timeout, "get messages");
    return { messages: inbox.getTotalMessages(false) };
  },

  async downloadForOffline({ folder: name, account: email, timeout = 120000 } = {}) {
    const f = folder(name, email);
    const l = urlListener();
    f.downloadAllForOffline(l, msgWindow());
    await withTimeout(l.promise, timeout, "download");
    return { ok: true };
  },

  async createFolder({ folder: name, parent, account: email, timeout = 20000 } = {}) {
    const root = parent ? folder(parent, email) : account(email).incomingServer.rootFolder;
    root.createSubfolder(name, msgWindow());
    const f = await until(`folder ${name}`, timeout, () =>
      root.subFolders.find(x => x.name == name)
    );
    return { path: pathOf(f), uri: f.URI };
  },

  // Shows a folder in the main window, as a click on it does.
  async openFolder({ folder: name, account: email, timeout = 20000 } = {}) {
    const f = folder(name, email);
    const tabmail = mainWindow().document.getElementById("tabmail");
    tabmail.switchToTab(0);
    const win = tabmail.currentAbout3Pane;
    await until("the folder pane", timeout, () => win.displayFolder);
    win.displayFolder(f);
    await until("the folder's view", timeout, () => win.gFolder?.URI == f.URI && win.gDBView);
    return { folder: pathOf(f), rows: win.gDBView.rowCount };
  },

  async offline({ offline, sendUnsent = true }) {
    const mgr = Cc["@mozilla.org/messenger/offline-manager;1"].getService(Ci.nsIMsgOfflineManager);
    if (offline) {
      Services.io.manageOfflineStatus = false;
      mgr.synchronizeForOffline(false, false, false, true, msgWindow());
      await until("offline", 20000, () => Services.io.offline);
    } else {
      Services.io.offline = false;
      mgr.goOnline(sendUnsent, true, msgWindow());
      await until("online", 20000, () => !Services.io.offline);
    }
    return { offline: Services.io.offline };
  },
};
