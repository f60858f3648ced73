import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "dist/page",
    target: "es2022",
    // "use client" is for frameworks that render on a server.
    rollupOptions: { onwarn: (warning, warn) => warning.code !== "MODULE_LEVEL_DIRECTIVE" && warn(warning) },
  },
  logLevel: "warn",
});
