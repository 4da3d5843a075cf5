/**
 * What is left out of packages: documentation and translations, the list of Debian's own slim container images.
 * An enclave's root file system lies in its memory. Copyright files stay, since licences ask for them.
 */
const LEFT_OUT = [
  "/usr/share/doc/",
  "/usr/share/groff/",
  "/usr/share/info/",
  "/usr/share/linda/",
  "/usr/share/lintian/",
  "/usr/share/locale/",
  "/usr/share/man/",
] as const;

/** True for a path that stays in the image. */
export function isSlimPath(path: string): boolean {
  const folder = LEFT_OUT.find((each) => path.startsWith(each));
  if (folder === undefined || path === "/usr/share/locale/locale.alias") return true;
  return (
    folder === "/usr/share/doc/" && (path.endsWith("/copyright") || !path.slice(folder.length).includes("/"))
  );
}
