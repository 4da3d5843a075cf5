/** Where documents come from. The root of trust follows the provider, so that nothing made for one is believed of the other. */
export interface NsmProvider extends AsyncDisposable {
  readonly name: "nitro" | "development";
  /** SHA-256 of the root certificate of its documents, lower case hex; null where only a document can tell (development). */
  readonly rootSha256: string | null;
  /**
   * One request, one answer, both CBOR (wire/nsm); requests are answered one after the other, as the device does.
   * @param request at most NSM_REQUEST_MAX_BYTES
   * @returns at most NSM_RESPONSE_MAX_BYTES
   * @throws E_NSM_NO_DEVICE, E_NSM_TRANSPORT, E_NSM_REQUEST_SIZE, the signal's reason
   */
  exchange(request: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
}
