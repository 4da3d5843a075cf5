/** What an examination of this machine says about one thing. */
export interface Finding {
  readonly check: string;
  /** fail: a backend that this machine is for cannot work. warn: some images or options cannot. */
  readonly result: "ok" | "warn" | "fail";
  readonly detail: string;
  /** What mends it; empty for ok. */
  readonly fix: string;
}

export const ok = (check: string, detail: string): Finding => ({ check, result: "ok", detail, fix: "" });

/** Told beside what should be done. */
interface Trouble {
  readonly detail: string;
  readonly fix: string;
}

export const warn = (check: string, trouble: Trouble): Finding => ({ check, result: "warn", ...trouble });

export const fail = (check: string, trouble: Trouble): Finding => ({ check, result: "fail", ...trouble });
