/** @file How the portal is tested: Debian's Chromium, one stack for the whole run, nothing mocked. */

import { defineConfig } from '@playwright/test';

const target = process.env.CARGO_TARGET_DIR ?? new URL('../../target', import.meta.url).pathname;

export default defineConfig({
  testDir: '.',
  testMatch: '*.spec.js',
  outputDir: `${target}/portal/results`,
  globalSetup: './stack.js',
  // Two cores: the stack needs one of them.
  workers: 1,
  // Generous: a machine that is five times slower still passes.
  timeout: 150_000,
  // What passes only the second time is reported as flaky, and does not stop the rest.
  retries: 1,
  expect: { timeout: 30_000 },
  reporter: [['list']],
  use: {
    browserName: 'chromium',
    viewport: { width: 1280, height: 800 },
    locale: 'en-GB',
    // A trace would cost more than the portal and the stack together.
    screenshot: 'only-on-failure',
    permissions: ['clipboard-read', 'clipboard-write'],
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--no-first-run',
        '--no-default-browser-check',
        // Whatever wants to leave this machine does not find the way.
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
      ],
    },
  },
});
