// One instance at the service of another program, such as a Go test: requests
// are JSON lines on stdin, {"id", "call", "args"}, answered in order by
// {"id", "value"} or {"id", "error"} on stdout. "call" is a function of
// privileged/tbapi.sys.mjs, or start (options of launch), restart, screenshot,
// stop. At the end of stdin the instance is stopped, so that nothing is left
// behind by a program that died.
import readline from "node:readline";
import { Thunderbird } from "./thunderbird.mjs";

export async function serve(dir, launch) {
  let tb = null;
  let options = {};
  const own = {
    async start(args) {
      if (tb) {
        throw new Error("this instance is running already");
      }
      options = args;
      tb = await launch(dir, args);
      return tb.state;
    },
    // Quits and starts again with the same profile, as a user does.
    async restart() {
      await running().stop();
      tb = null;
      const { accounts: _accounts, ca: _ca, ...rest } = options;
      tb = await Thunderbird.start(dir, rest);
      return tb.state;
    },
    async screenshot({ to, root }) {
      return running().screenshot(to, { root: !!root });
    },
    async stop() {
      await running().stop();
      tb = null;
    },
  };
  function running() {
    if (!tb) {
      throw new Error("this instance is not running: call start first");
    }
    return tb;
  }

  for await (const line of readline.createInterface({ input: process.stdin })) {
    let answer;
    try {
      const { id, call, args = {} } = JSON.parse(line);
      answer = { id };
      answer.value = (await (Object.hasOwn(own, call) ? own[call](args) : running().call(call, args))) ?? null;
    } catch (e) {
      answer = { ...answer, error: e.message };
    }
    await new Promise(out => process.stdout.write(JSON.stringify(answer) + "\n", out));
  }
  await tb?.stop();
}
