// The account hub, in which a user sets an account up by hand: each call fills
// in one of its pages and leaves it open, so that a picture can be taken.
import { folderOfAccount, mainWindow } from "resource://tbdriver/objects.sys.mjs";
import { sleep, until } from "resource://tbdriver/waiting.sys.mjs";

const SECURITY = { none: "0", starttls: "2", tls: "3" };
const NORMAL_PASSWORD = "3";

// The hub is a dialog in a shadow tree, its pages are elements of it.
function hubView() {
  return mainWindow().document.querySelector("account-hub-container")?.modal?.querySelector("account-hub-email") ?? null;
}

function page(id) {
  const el = hubView()?.querySelector(`#${id}`);
  return el && !el.hidden ? el : null;
}

// Writes as a person does: the page learns it from the input event.
function type(view, id, value) {
  const field = view.querySelector(`#${id}`);
  const win = mainWindow();
  field.value = String(value);
  for (const name of ["input", "change"]) {
    field.dispatchEvent(new win.Event(name, { bubbles: true }));
  }
}

async function press(id, timeout) {
  const button = await until(`the button ${id}`, timeout, () => {
    const b = hubView().querySelector(`#emailFooter #${id}`);
    return b && !b.hidden && !b.disabled && !hubView().classList.contains("busy") ? b : null;
  });
  button.click();
}

// What the hub says on top of the page, such as that nothing was found.
function told() {
  const texts = [];
  const look = root => {
    for (const el of root.querySelectorAll("*")) {
      if (el.hidden) {
        continue;
      }
      if (["emailFormNotificationTitle", "emailFormNotificationText"].includes(el.id)) {
        texts.push(el.textContent.trim().replace(/\s+/g, " "));
      }
      if (el.shadowRoot) {
        look(el.shadowRoot);
      }
    }
  };
  for (const p of hubView().querySelectorAll("[id$=Subview]:not([hidden])")) {
    look(p.shadowRoot ?? p);
  }
  return texts.filter(Boolean);
}

async function server(view, prefix, { host, port, security, user }) {
  type(view, `${prefix}Hostname`, host);
  type(view, `${prefix}Port`, port);
  type(view, `${prefix}ConnectionSecurity`, SECURITY[security]);
  type(view, `${prefix}AuthMethod`, NORMAL_PASSWORD);
  type(view, `${prefix}Username`, user);
  await sleep(100); // the page checks itself
}

export const hub = {
  // Opens the hub, writes name and address, and chooses manual configuration
  // with this server for reading.
  async hubIncoming({ name, email, imap, timeout = 20000 }) {
    const win = mainWindow();
    await win.openAccountHub("MAIL");
    const first = await until("the account hub", timeout, () => page("emailAutoConfigSubview"));
    type(first, "realName", name);
    type(first, "email", email);
    const manual = await until("manual configuration", timeout, () => 
      first.querySelector("#manualConfiguration:not([hidden]):not([disabled])"));
    manual.click();
    const view = await until("the page for reading", timeout, () => page("emailIncomingConfigSubview"));
    await server(view, "incoming", imap);
    return { told: told() };
  },

  // Goes on to the server for sending and has the settings tested.
  async hubOutgoing({ smtp, timeout = 30000 }) {
    await press("forward", timeout);
    const view = await until("the page for sending", timeout, () => page("emailOutgoingConfigSubview"));
    await server(view, "outgoing", smtp);
    await press("custom", timeout);
    await until("the end of the test", timeout, () => !hubView().classList.contains("busy") && told().length);
    return { told: told() };
  },

  // Goes on to the password, writes it and has it remembered.
  async hubPassword({ password, timeout = 30000 }) {
    await press("forward", timeout);
    const view = await until("the page for the password", timeout, () => page("emailPasswordSubview"));
    type(view, "password", password);
    const remember = view.querySelector("#rememberPassword");
    if (!remember.checked) {
      remember.click();
    }
    await sleep(100);
    return { told: told() };
  },

  // Has the account made, which signs in to both servers, and closes the hub.
  async hubFinish({ email, timeout = 60000 }) {
    const before = told().join();
    await press("forward", timeout);
    await until("the account", timeout, () => {
      if (page("emailPasswordSubview") && !hubView().classList.contains("busy") && told().join() != before) {
        throw new Error(`the account hub says: ${told().join(" | ")}`);
      }
      return page("emailAddedSuccessSubview") || page("emailSyncAccountsSubview");
    });
    const shown = told();
    const dialog = mainWindow().document.querySelector("account-hub-container")?.modal;
    dialog?.dispatchEvent(new (mainWindow().CustomEvent)("request-close", { bubbles: true }));
    await until("the folders", timeout, () => folderOfAccount(email));
    return { told: shown };
  },
};
