/**
 * What update-ca-certificates does when ca-certificates is in the image: the bundle, a link for each certificate, and
 * the links under which OpenSSL finds a certificate by its subject.
 */
import { X509Certificate } from "node:crypto";
import { basename } from "node:path/posix";
import { KitError } from "../../core/errors.ts";
import { hashSubjectName } from "../certificate-name-hash.ts";
import type { FileTree } from "../file-tree.ts";
import { type FinishContext, readText, writeLink, writeText } from "./finish-context.ts";

const SOURCE = "/usr/share/ca-certificates";
const TARGET = "/etc/ssl/certs";
const BUNDLE = `${TARGET}/ca-certificates.crt`;

export async function finishCaBundle(context: FinishContext): Promise<void> {
  if (!context.packages.some((each) => each.name === "ca-certificates")) return;
  const paths = certificatePaths(context.tree, SOURCE);
  const texts: string[] = [];
  for (const path of paths) {
    const text = (await readText(context, path)) ?? "";
    texts.push(text.endsWith("\n") ? text : `${text}\n`);
    linkCertificate(context, path, text);
  }
  await writeText(
    context,
    "/etc/ca-certificates.conf",
    paths.map((path) => `${path.slice(SOURCE.length + 1)}\n`).join(""),
  );
  await writeText(context, BUNDLE, texts.join(""));
}

function certificatePaths(tree: FileTree, folder: string): string[] {
  return tree.children(folder).flatMap((entry) => {
    if (entry.type === "directory") return certificatePaths(tree, entry.path);
    return entry.path.endsWith(".crt") ? [entry.path] : [];
  });
}

function linkCertificate(context: FinishContext, path: string, text: string): void {
  const name = `${basename(path, ".crt").replaceAll(" ", "_").replace(/[()]/g, "=").replaceAll(",", "_")}.pem`;
  writeLink(context.tree, `${TARGET}/${name}`, path);
  const hash = hashCertificate(path, text);
  let number = 0;
  while (context.tree.get(`${TARGET}/${hash}.${number}`) !== undefined) number += 1;
  writeLink(context.tree, `${TARGET}/${hash}.${number}`, name);
}

function hashCertificate(path: string, text: string): string {
  try {
    return hashSubjectName(new X509Certificate(text).raw);
  } catch (error) {
    throw new KitError("E_IMAGE_PACKAGE_CONTENT", `${path} is not a certificate`, { cause: error });
  }
}
