// tests/browser/chromium.mjs: Debian's Chromium without a window, with a fresh profile.
//
// The driver makes the profile and removes it on close. Pages of one context share their
// storage, as the tabs of one person do; each person gets a context of their own.
import { chromium } from "playwright-core";

const PROGRAM = process.env.PEAL_CHROMIUM ?? "/usr/bin/chromium";

// Nothing but the page under test may use the network, and the sandbox does not work for root.
const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts a browser; the caller closes it. */
export async function startBrowser() {
  return chromium.launch({ executablePath: PROGRAM, headless: true, args: ARGS });
}
