// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from "vite";

// Fixed names, so that the controller's build can list them; no inline scripts, which its content policy forbids.
export default defineConfig({
  base: "./",
  build: {
    outDir: "dist",
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: "page.js",
        assetFileNames: "page[extname]",
      },
    },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:7401" } },
});
