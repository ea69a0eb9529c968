// The page that compares engines: its chart, and buttons that copy.

import "./chart.js";
import { watchCopyButtons } from "./copy.js";

document.documentElement.classList.add("scripted");
watchCopyButtons(document);
